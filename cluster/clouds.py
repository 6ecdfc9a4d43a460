"""What the clouds' own errors mean: a pattern, the cause and the remedy, the first that matches.

The codes are those of EC2, Compute Engine and Azure Resource Manager, as their SDKs word them and
Ray's autoscaler repeats them. Those that Kubernetes' autoscalers repeat too stand in
`cluster.kubernetes.causes`.
"""

from __future__ import annotations

import re

TABLE: tuple[tuple[str, str, str], ...] = (
    (
        r"ExpiredToken|RequestExpired|ExpiredAuthenticationToken|token (?:has|is) expired"
        r"|RefreshError|Reauthentication is needed",
        "the cloud's credentials have expired",
        "log in again: aws sso login, gcloud auth application-default login, az login",
    ),
    (
        r"NoCredentials|Unable to locate credentials|DefaultCredentialsError"
        r"|could not automatically determine credentials|DefaultAzureCredential failed"
        r"|AuthFailure|InvalidClientTokenId|UnrecognizedClientException"
        r"|InvalidAuthenticationToken",
        "the cloud's credentials are absent, or are refused",
        "log in, or set them: aws configure, gcloud auth application-default login, az login",
    ),
    (
        r"(?:Required|permission) '?(?P<right>[a-z]+\.[\w.]+)'? permission",
        "the credentials lack the right %(right)s",
        "ask the project's administrator for a role that has it",
    ),
    (
        r"(?:User|role)[^\n]* is not authorized to perform: (?P<right>[\w:*]+)",
        "the credentials lack the right %(right)s",
        "slipway render prints the roles that are needed; ask the account's administrator",
    ),
    (
        r"UnauthorizedOperation|AccessDenied|PERMISSION_DENIED|AuthorizationFailed",
        "the credentials may not start machines (%(all)s)",
        "slipway render prints what is needed; ask the account's administrator",
    ),
    (
        r"SERVICE_DISABLED|accessNotConfigured|has not been used in project"
        r"|MissingSubscriptionRegistration",
        "the cloud's service for machines is switched off in this project",
        "switch it on: gcloud services enable compute.googleapis.com, or az provider register "
        "--namespace Microsoft.Compute",
    ),
    (
        r"OptInRequired|PendingVerification|BillingDisabled|BILLING_DISABLED",
        "the account may not start machines yet (%(all)s)",
        "the cloud's console says what is missing: verification, a subscription or billing",
    ),
    (
        r"not supported in your requested Availability Zone|InvalidInstanceType"
        r"|instance type '?(?P<type>[\w.-]+)'? does not exist"
        r"|acceleratorTypes/(?P<kind>[\w-]+)' was not found"
        r"|not available in location|NotAvailableForSubscription",
        "the region or zone has no such machine",
        "name another in cluster.provider.region or zones:, or alternatives in accelerators:",
    ),
    (
        r"InvalidAMIID\S*|ImageNotFound|PlatformImageNotFound|images/\S+' was not found",
        "the machines' image is not there (%(all)s)",
        "leave cluster.provider.image away, or name one of this region",
    ),
    (
        r"InvalidKeyPair\S*",
        "the ssh key is not known in this region",
        "slipway up makes and registers one of its own",
    ),
    (
        r"InvalidSubnetID\S*|InvalidGroup\S*|InvalidSecurityGroupID\S*|No usable subnets",
        "the network that the machines shall stand in is not there (%(all)s)",
        "check cluster.provider.security_group and zones: against the region",
    ),
    (
        r"SpotMaxPriceTooLow",
        "spot machines cost more than the bound now",
        "wait, or set spot: false",
    ),
    (
        r"InstanceLimitExceeded|Quota '?(?P<quota>[\w-]+)'? exceeded|OperationNotAllowed"
        r"|RESOURCE_EXHAUSTED",
        "the cloud account's own quota is used up (%(all)s)",
        "ask the cloud for more of this kind of machine in this region",
    ),
    (
        r"RequestLimitExceeded|ThrottlingException|TooManyRequests|rateLimitExceeded",
        "the cloud asks for fewer requests at a time",
        "it is tried again by itself",
    ),
    (
        r"EndpointConnectionError|Could not connect to the endpoint|Name or service not known"
        r"|ConnectTimeout",
        "the cloud does not answer from where the head stands",
        "check region: and the network's way out",
    ),
)


def explain_cloud(message: str) -> tuple[str, str] | None:
    """Cause and remedy of a cloud's error; None if it is not known."""
    for pattern, cause, remedy in TABLE:
        match = re.search(pattern, message)
        if match:
            said = {name: value or "" for name, value in match.groupdict().items()}
            said["all"] = match[0]
            return cause % said, remedy % said
    return None
