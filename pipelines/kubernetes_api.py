"""The two calls to the Kubernetes API that a scheduled run needs: read and create a RayJob."""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = 30.0


class UnavailableError(Exception):
    """The API did not answer, or asks to come back later."""


class ExistsError(Exception):
    """An object of that name exists already."""


class MissingError(Exception):
    """There is no object of that name."""


@dataclass(frozen=True)
class KubernetesApi:
    """RayJobs of one namespace, by the service account that the pod has mounted.

    Attributes:
        server: URL of the API server.
        account: Folder with the account's ``token``, ``ca.crt`` and ``namespace``.
    """

    server: str
    account: Path = SERVICE_ACCOUNT

    @classmethod
    def in_cluster(cls) -> "KubernetesApi":
        """Returns the API of the cluster that this pod runs in."""
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}")

    @property
    def namespace(self) -> str:
        """The namespace of the service account."""
        return self._read("namespace")

    def get(self, name: str) -> dict[str, Any]:
        """Reads a RayJob.

        Args:
            name: Its name.

        Raises:
            MissingError: There is none.
            ConfigError: The account may not read RayJobs.
            UnavailableError: The API did not answer.
        """
        return self._call("GET", f"/{urllib.parse.quote(name)}")

    def create(self, rayjob: dict[str, Any]) -> dict[str, Any]:
        """Creates a RayJob; a field that the API does not know is an error.

        Args:
            rayjob: The manifest.

        Raises:
            ExistsError: One of that name is there.
            ConfigError: The API refuses the manifest, or the account may not create RayJobs.
            UnavailableError: The API did not answer; the RayJob may have been created.
        """
        return self._call("POST", "?fieldValidation=Strict", rayjob)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        base = f"{self.server}/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs"
        request = urllib.request.Request(
            base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            # Read for every call: the kubelet replaces the token before it expires.
            headers={
                "Authorization": f"Bearer {self._read('token')}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT, context=self._tls()) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise _refusal(method, error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnavailableError(f"{self.server}: {error}") from error

    def _tls(self) -> ssl.SSLContext | None:
        if not self.server.startswith("https:"):
            return None
        return ssl.create_default_context(cafile=str(self.account / "ca.crt"))

    def _read(self, name: str) -> str:
        try:
            return (self.account / name).read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"{self.account / name}: cannot be read; run this in a pod with "
                "automountServiceAccountToken: true"
            ) from error


def _refusal(method: str, error: urllib.error.HTTPError) -> Exception:
    message = _message(error)
    if error.code == http.client.CONFLICT:
        return ExistsError(message)
    if error.code == http.client.NOT_FOUND:
        return MissingError(message)
    if error.code == http.client.TOO_MANY_REQUESTS or error.code >= 500:
        return UnavailableError(f"{error.code}: {message}")
    return ConfigError(f"the Kubernetes API refused the {method} with {error.code}: {message}")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)
