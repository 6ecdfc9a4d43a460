"""Kubernetes: rendering is pure (a spec in, documents out); applying is apart, in ``apply``.

``documents`` gives what ``up`` applies, ``rayjob`` a run with a cluster of its own, ``rayservice``
the HTTP services. All start from the complete files in ``k8s/documents`` and set values as data.
"""
