"""Requests of web applications: a span and an ambient context for each.

>>> from llmevents.web import WSGIMiddleware, parse_from
>>> parse_from('{"user_id": "u-1", "company_id": "acme"}')
{'user_id': 'u-1', 'organization_id': 'acme'}

`ASGIMiddleware` and `WSGIMiddleware` need no framework and no dependency.
"""

from llmevents.web._asgi import ASGIMiddleware
from llmevents.web._parse import parse_from
from llmevents.web._wsgi import WSGIMiddleware


__all__ = ["ASGIMiddleware", "WSGIMiddleware", "parse_from"]
