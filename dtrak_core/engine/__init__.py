"""The engine: the processes that do the work, by Dask, on this machine or a cluster."""
