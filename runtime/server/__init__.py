"""Bundles served over HTTP: the page, the answers, the figures a monitor reads. The ``[serve]`` extra.

settings    what is served, to whom, within which bounds
models      the bundles that answer, alone or together; which of them a request means
service     admission, workers, self-test, the end
bodies      request bodies, bounded in size and time
gate        in front of every route: host, origin, token, headers, one line of log
app         the routes, as an ASGI application
process     the application under uvicorn: socket, signals, exit code
"""
