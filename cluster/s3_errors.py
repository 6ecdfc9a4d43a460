"""What S3 and the way to it can answer, each as one line: address, cause, next step."""

from __future__ import annotations

from typing import Any

from cluster.secrets import SecretError
from cluster.storage import MissingError, StorageError, UnavailableError

RIGHTS = "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"
_REFUSED = (
    "the credentials are refused",
    "check the secret named by cluster.storage.credentials (or the AWS profile)",
)
_DENIED = ("access is denied", f"the credentials need {RIGHTS} here")
_REGION = ("the bucket lives in another region", "set cluster.storage.region to the bucket's")
_BUSY = ("the store is overloaded or failing", "run again in a moment")
_FULL = ("the store is full", "free some space there and run again")
_NO_BUCKET = ("the bucket does not exist", "create it or correct cluster.storage")
_NO_CONDITION = (
    "the store does not offer conditional writes (If-None-Match, If-Match)",
    "use one that does: AWS S3, MinIO, Ceph, Cloudflare R2",
)
CODES = {
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": ("that is not a bucket name", "correct cluster.storage"),
    "InvalidAccessKeyId": _REFUSED,
    "SignatureDoesNotMatch": _REFUSED,
    "InvalidToken": _REFUSED,
    "ExpiredToken": ("the credentials have expired", "renew them"),
    "ExpiredTokenException": ("the credentials have expired", "renew them"),
    "AccessDenied": _DENIED,
    "AccountProblem": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "401": _REFUSED,
    "301": _REGION,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "NotImplemented": _NO_CONDITION,
    "501": _NO_CONDITION,
    "EntityTooLarge": ("the file is too large for this store", "use smaller shards"),
}
BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling"}
FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507"}
MISSING = {"NoSuchKey", "404", "NotFound"}


def s3_error(error: Exception, url: str, endpoint: str | None) -> StorageError:
    """boto3's exception about `url` as one line; the server's own text is left out."""
    from botocore import exceptions

    server = endpoint or "AWS S3"
    if isinstance(error, SecretError):
        return StorageError(f"{url}: {error}")
    if isinstance(error, exceptions.ClientError):
        return _answered(error.response, url)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        remedy = "set cluster.storage.credentials to {secret: NAME} or AWS_ACCESS_KEY_ID"
        return StorageError(f"{url}: no complete credentials were found; {remedy}")
    if isinstance(error, exceptions.SSLError):
        return StorageError(f"{url}: {server} has no trusted certificate; check the endpoint")
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        remedy = "check cluster.storage.endpoint, the network and that the store runs"
        return UnavailableError(f"{url}: {server} does not answer ({_kind(error)}); {remedy}")
    if isinstance(error, (exceptions.ParamValidationError, exceptions.InvalidRegionError)):
        return StorageError(f"{url}: the address or region is not valid; correct cluster.storage")
    if isinstance(error, ValueError):
        return StorageError(f"{url}: {server!r} is not a valid endpoint; write it as http://host")
    return StorageError(f"{url}: {type(error).__name__}; check cluster.storage")


def _answered(response: Any, url: str) -> StorageError:
    code = str(response.get("Error", {}).get("Code", "unknown"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in MISSING:
        return MissingError(f"{url} does not exist")
    if code in FULL:
        return UnavailableError(f"{url}: {_FULL[0]} ({code}); {_FULL[1]}")
    if code in BUSY or (code not in CODES and status >= 500):
        return UnavailableError(f"{url}: {_BUSY[0]} ({code}); {_BUSY[1]}")
    cause, remedy = CODES.get(code, ("the store refused", "check cluster.storage"))
    return StorageError(f"{url}: {cause} ({code}); {remedy}")


def _kind(error: Exception) -> str:
    name = type(error).__name__
    if "Timeout" in name:
        return "no answer in time"
    return "no connection" if "Connect" in name else name
