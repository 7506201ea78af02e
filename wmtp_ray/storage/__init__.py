"""Where runs, stores and caches live, and how a directory is known to be whole."""

from wmtp_ray.storage.manifest import Manifest, read_manifest, verify_manifest, write_manifest

__all__ = ["Manifest", "read_manifest", "verify_manifest", "write_manifest"]
