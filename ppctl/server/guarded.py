"""The backend for requests: what changes a project is done for those who may."""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager
from typing import Any

from pypiserver.backend import BackendProxy
from pypiserver.bottle_wrapper import HTTPError, request
from pypiserver.core import PkgFile

from ppctl.server import access, names
from ppctl.server.access import IDENTITY, Refusal
from ppctl.server.backend import FileBackend
from ppctl.server.catalogue import Catalogue
from ppctl.server.drafts import Draft
from ppctl.server.marks import CLOSED, MarksFile
from ppctl.server.metadata import Metadata
from ppctl.server.owners import THROW_AWAY, Owners
from ppctl.server.permissions import Identity


class GuardedBackend(BackendProxy):  # type: ignore[misc]
    """pypiserver's backend with rules. `owners`: None where projects are not owned."""

    def __init__(
        self,
        backend: FileBackend,
        catalogue: Catalogue,
        marks: MarksFile,
        owners: Owners | None,
        *,
        overwrite: bool,
    ) -> None:
        super().__init__(backend)
        self._files = backend
        self._catalogue = catalogue
        self._marks = marks
        self._owners = owners
        self._overwrite = overwrite

    def draft(self) -> AbstractContextManager[Draft]:
        """Give an upload a place on the disk where nobody sees it. Raises OSError."""
        return self._files.draft()

    def check_upload(self, filename: str, identity: Identity | None, sha256: str) -> bool:
        """Raise Refusal or FileExistsError where `store` would, as far as it is known now.

        Returns whether it comes again: there is a file of this name, which may be the one with this hash.
        """
        found = names.parse(filename)
        if found:
            access.check_upload(identity, found.project, self._owner(found.project))
            self._marks.version()
            status = self._marks.of(found.project).status
            if status in CLOSED:
                raise Refusal(403, f"{found.project} is {status}: nothing can be uploaded to it")
        if self._overwrite or not self.exists(filename):
            return False
        if not self._files.may_be(filename, sha256):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), filename)
        return True

    def store(
        self,
        draft: Draft,
        filename: str,
        about: Metadata | None,
        identity: Identity | None,
        *,
        is_again: bool = False,
    ) -> None:
        """Let an upload appear. `is_again`: as FileBackend. Raises Refusal, and what that raises."""
        found = names.parse(filename)
        if found is None or identity is None:
            self._files.store(draft, filename, about, is_again=is_again)
            return
        project, user = found.project, identity.user
        owner = self._owner(project)
        access.check_upload(identity, project, owner)
        is_new = owner is None and not project.startswith(THROW_AWAY) and not self._catalogue.files(project)
        if is_new and self._owners:
            # Before the file is there: of two who are the first at once, one stores nothing.
            owner = self._owners.claim(project, user)
            access.check_upload(identity, project, owner)
        owners = self._owners if is_new or owner == user else None
        try:
            self._files.store(draft, filename, about, is_again=is_again)
        except BaseException:
            if owners and is_new and owner == user and not self._catalogue.files(project):
                owners.put(project, None)  # a name is not taken by an upload that failed
                self._claim_again(owners, project, user)
            raise
        if owners:
            self._claim_again(owners, project, user)

    def _claim_again(self, owners: Owners, project: str, user: str) -> None:
        """Of several first uploads at once, one that failed may have given up the project of all of them."""
        if owners.of(project) is None and self._catalogue.files(project):
            owners.claim(project, user)

    def remove_package(self, pkg: PkgFile) -> None:
        """Remove a file. Raises HTTPError 403, and what FileBackend raises."""
        project = names.normalize(pkg.pkgname)
        try:
            access.check_removal(request.environ.get(IDENTITY), project, self._owner(project))
        except Refusal as e:
            raise http_error(e) from None
        super().remove_package(pkg)

    def _owner(self, project: str) -> str | None:
        return self._owners.of(project) if self._owners else None


def http_error(refusal: Refusal) -> Any:
    """Return the error that makes pypiserver answer with a refusal."""
    return HTTPError(refusal.status, str(refusal), headers=dict(refusal.headers))
