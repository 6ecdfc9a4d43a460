"""How the file works, in words: the beginning of the reference."""

PROSE = """\
# cluster: the one YAML, and the cluster it describes

One file holds the machines and every model. The smallest useful one is

```yaml
models:
  assistant: {domain: text, task: generation, data: book.txt}
```

**Grammar.** YAML 1.2: `3e-4` is a number, `yes` a text. `a..b` is an inclusive *range* (`2` alone
is just that); *durations* are `5ms 90s 10m 2h 1d` or seconds; *sizes* `512Mi 8Gi 16GB` or bytes;
*money* `31.2 USD/h`, `200 USD/month`; *shares* `10%` or `0.1`; *amounts* of training `500` or
`500 steps`, `1 epoch`, `5%` of the run; *accelerators* `H100:8` for each node. `MODEL`,
`MODEL@3`, `MODEL@production`, `MODEL@latest` name a version. A value that starts with `*` needs
quotes: `"*.csv"`. A map with a `type` may be written as the type alone: `optimizer: adamw`.
`null` restores a key's default.

**Paths** start at the file's folder. **Secrets** are named, never written: `{secret: NAME}` or
`{secret: NAME/KEY}`; that is a Secret on Kubernetes, elsewhere a file of mode 0600 under
`~/.config/slipway/secrets/`.

**Environments.** `-e prod` (or `SLIPWAY_ENV=prod`) lays `environments.prod` over the file: maps
merge, lists whose items have a `name` merge by it, `null` restores the default, anything else is
replaced. **`--set`** comes last and may be repeated: `--set
models.assistant.train.optimizer.lr=1e-4`, `--set 'cluster.pools[0].nodes=0..2'` or
`cluster.pools.gpu.nodes=0..2`; the value is read as YAML.

**The gate**, `promote.if`: the task's metrics, `p50_ms` and `p99_ms`, `ALIAS.metric`, numbers,
`and or not`, `< <= > >= ==`, `+ - * /` and parentheses; put spaces around a minus. Where the
alias has no version yet, comparisons with it hold.

Mistakes are told all at once, as `cluster.yaml:12: models.assistant.train.optimzer: unknown key;
did you mean "optimizer"?`. The reference below is made from the code by `python -m
cluster.spec.schema > cluster/README.md`.

## Every key
"""
