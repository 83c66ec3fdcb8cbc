"""OpenAPI 3.1 from the API's own Structs, and the same as a page that needs no network."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

import msgspec

from server.api_types import ClickRequest, Problem, RankRequest
from server.operations import OPERATIONS, Operation
from server.problems import KINDS, MEDIA_TYPE, Kind

Json = dict[str, Any]

EXAMPLES: Final[dict[type[msgspec.Struct], Json]] = {
    RankRequest: {
        "context": {
            "age": 23,
            "gender": "F",
            "latitude": -37.8,
            "longitude": 145.0,
            "traffic_source": "Search",
            "occurred_at": "2026-01-26T07:29:00",
        },
        "k": 5,
    },
    ClickRequest: {"product_id": 192},
}
_DOCUMENTS: Final = {
    "/metrics": ("Metrics in Prometheus' text form", "text/plain"),
    "/openapi.json": ("This description", "application/json"),
    "/docs": ("This description as a page", "text/html"),
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}code,pre{font-family:ui-monospace,monospace;font-size:.9em}"
    "pre{overflow-x:auto;padding:.7rem;border:1px solid #8886;border-radius:6px}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;"
    "padding:.25rem .8rem .25rem 0}section{border-top:1px solid #8886;margin-top:1.5rem}"
)
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def openapi(version: str, keys: bool, operations: Sequence[Operation] = OPERATIONS) -> Json:
    """The document.

    Args:
        version: of the software.
        keys: whether API keys are needed here.
        operations: what there is.
    """
    paths: dict[str, Json] = defaultdict(dict)
    schemas: Json = {}
    for operation in operations:
        paths[operation.path][operation.method.lower()] = _operation(operation, schemas, keys)
    for path, (summary, media_type) in _DOCUMENTS.items():
        content = {media_type: {"schema": {} if "json" in media_type else {"type": "string"}}}
        paths[path]["get"] = {
            "operationId": path.strip("/").replace(".", "_"),
            "summary": summary,
            "responses": {"200": {"description": summary, "content": content}},
        }
    components: Json = {"schemas": schemas}
    if keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LiveReco",
            "version": version,
            "description": "Ranks products with the model of this moment, and learns from clicks.",
        },
        "paths": dict(paths),
        "components": components,
    }


def _operation(operation: Operation, schemas: Json, keys: bool) -> Json:
    answer = {"application/json": {"schema": _reference(operation.answer, schemas)}}
    responses: Json = {"200": {"description": operation.summary, "content": answer}}
    if operation.unwell:
        responses["503"] = {"description": "It is not; `reasons` says why", "content": answer}
    by_status: dict[int, list[Kind]] = defaultdict(list)
    for kind in operation.problems:
        by_status[kind.status].append(kind)
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(kind.title for kind in kinds),
            "content": {MEDIA_TYPE: {"schema": _reference(Problem, schemas)}},
        }
    description: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": responses,
    }
    if parameters := list(_parameters(operation.path)):
        description["parameters"] = parameters
    if operation.request:
        body: Json = {"schema": _reference(operation.request, schemas)}
        body["example"] = EXAMPLES[operation.request]
        description["requestBody"] = {"required": True, "content": {"application/json": body}}
    if keys and operation.guarded:
        description["security"] = [{"key": []}]
    return description


def _reference(struct: type[msgspec.Struct], schemas: Json) -> Json:
    [reference], found = msgspec.json.schema_components(
        [struct], ref_template="#/components/schemas/{name}"
    )
    schemas.update(found)
    return reference


def _parameters(path: str) -> Iterable[Json]:
    if "{decision_id}" in path:
        schema: Json = {"type": "string", "minLength": 1}
        yield {"name": "decision_id", "in": "path", "required": True, "schema": schema}
    if "{product_id}" in path:
        schema = {"type": "integer", "minimum": 0}
        yield {"name": "product_id", "in": "path", "required": True, "schema": schema}


def page(document: Json) -> str:
    """The document for people: every operation, its schema, and every problem."""
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} For programs: "
        '<a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_section(f"{method.upper()} {path}", operation))
    parts.append("<section><h2>Problems</h2><table>")
    parts += [
        f'<tr id="{kind.name}"><td>{kind.status}</td><td><code>{kind.name}</code></td>'
        f"<td>{escape(kind.title)}. {escape(kind.meaning)}</td></tr>"
        for kind in KINDS
    ]
    parts.append("</table></section><section><h2>Schemas</h2>")
    parts += [
        f'<h3 id="{name}">{name}</h3><pre>{_pretty(schema)}</pre>'
        for name, schema in document["components"]["schemas"].items()
    ]
    parts.append("</section></html>")
    return "\n".join(parts)


def _section(heading: str, operation: Json) -> str:
    lines = [f"<section><h2><code>{escape(heading)}</code></h2><p>{escape(operation['summary'])}."]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        name = body["schema"]["$ref"].rpartition("/")[2]
        lines.append(f'<p>Body: <a href="#{name}">{name}</a>, such as</p>')
        lines.append(f"<pre>{_pretty(body['example'])}</pre>")
    lines.append("<table>")
    for status, response in operation["responses"].items():
        schema = next(iter(response["content"].values()))["schema"]
        name = schema.get("$ref", "").rpartition("/")[2]
        link = f'<a href="#{name}">{name}</a>' if name else ""
        lines.append(
            f"<tr><td>{status}</td><td>{escape(response['description'])}</td><td>{link}</td></tr>"
        )
    return "".join([*lines, "</table></section>"])


def _pretty(value: Json) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
