"""The cache program: fetches pages and files of another index for the workers, and keeps them within a limit.

`python -m ppctl.server.cache`, one process, with `upstream: cache` only. It answers on a UNIX socket in
`run/` and decides nothing about names: workers ask it for what may be asked about (ppctl.server.upstream). It
alone needs httpx, simple-repository and uvicorn, which are in the releases of such indexes.
"""
