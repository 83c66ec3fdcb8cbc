"""OpenAPI 3.1 from the API's own Structs, and the same as a page that needs no network."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

import msgspec

from server.api_types import (
    ClickRequest,
    DecisionId,
    ExplainRequest,
    Problem,
    ProductId,
    RankRequest,
)
from server.operations import DOCUMENTS, EVENTS, JSON, LIVE, OPERATIONS, Operation
from server.problems import KINDS, MEDIA_TYPE, Kind

Json = dict[str, Any]

_VISITOR: Final = {
    "age": 23,
    "gender": "F",
    "latitude": -37.8,
    "longitude": 145.0,
    "traffic_source": "Search",
    "occurred_at": "2026-01-26T07:29:00",
}
EXAMPLES: Final[dict[type[msgspec.Struct], Json]] = {
    RankRequest: {"context": _VISITOR, "k": 5},
    ClickRequest: {"product_id": 192},
    ExplainRequest: {"context": _VISITOR, "k": 5},
}
_IN_PATH: Final = {"decision_id": DecisionId, "product_id": ProductId}
_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h2,h3,p{overflow-wrap:anywhere}code,pre{font-family:ui-monospace,monospace;font-size:.9em}"
    "pre{overflow-x:auto;padding:.7rem;border:1px solid #8886;border-radius:6px}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;"
    "padding:.25rem .8rem .25rem 0}section{border-top:1px solid #8886;margin-top:1.5rem}"
    "@media(max-width:40rem){tr{display:block;margin:.5rem 0}"
    "td{display:inline;padding:0 .5rem 0 0}}"
)
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def openapi(
    version: str,
    keys: bool,
    operations: Sequence[Operation] = (*OPERATIONS, *LIVE, *DOCUMENTS),
) -> Json:
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
    answer = {operation.media: _answer(operation, schemas)}
    responses: Json = {"200": {"description": operation.summary, "content": answer}}
    if operation.unwell:
        responses["503"] = {"description": "It is not; `reasons` says why", "content": answer}
    by_status: dict[int, list[Kind]] = defaultdict(list)
    for kind in operation.problems:
        by_status[kind.status].append(kind)
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(kind.title for kind in kinds),
            "content": {MEDIA_TYPE: {"schema": _schema(Problem, schemas)}},
        }
    description: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": responses,
    }
    if parameters := list(_parameters(operation, schemas)):
        description["parameters"] = parameters
    if operation.request:
        body: Json = {"schema": _schema(operation.request, schemas)}
        body["example"] = EXAMPLES[operation.request]
        description["requestBody"] = {"required": True, "content": {JSON: body}}
    if keys and operation.guarded:
        description["security"] = [{"key": []}]
    return description


def _answer(operation: Operation, schemas: Json) -> Json:
    schema = _schema(operation.answer, schemas)
    if operation.media != EVENTS:
        return {"schema": schema}
    text = {"type": "string", "description": "The `data` of every event is one such item, as JSON."}
    return {"schema": text, "x-itemSchema": schema}  # OpenAPI 3.2 has `itemSchema` for it


def _schema(of: Any, schemas: Json) -> Json:
    """The schema of a type, which refers to those of its Structs."""
    [schema], found = msgspec.json.schema_components(
        [of], ref_template="#/components/schemas/{name}"
    )
    schemas.update(found)
    return schema


def _parameters(operation: Operation, schemas: Json) -> Iterable[Json]:
    for name, of in _IN_PATH.items():
        if f"{{{name}}}" in operation.path:
            yield {"name": name, "in": "path", "required": True, "schema": _schema(of, schemas)}
    if operation.query:
        _schema(operation.query, schemas)
        whole = schemas[operation.query.__name__]
        for name, schema in whole["properties"].items():
            required = name in whole["required"]
            yield {"name": name, "in": "query", "required": required, "schema": schema}


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
    body = operation.get("requestBody", {}).get("content", {}).get(JSON)
    if body:
        lines.append(f"<p>Body: {_link(body)}, such as</p><pre>{_pretty(body['example'])}</pre>")
    query = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    if query:
        lines.append(f"<p>Query: <code>{escape('=…&'.join(query))}=…</code></p>")
    lines.append("<table>")
    for status, response in operation["responses"].items():
        link = "".join(map(_link, response["content"].values()))
        lines.append(
            f"<tr><td>{status}</td><td>{escape(response['description'])}</td><td>{link}</td></tr>"
        )
    return "".join([*lines, "</table></section>"])


def _link(content: Json) -> str:
    """To the schema of a body, or of its items; nothing where it has no name."""
    schema: Json = content.get("x-itemSchema") or content["schema"]
    reference: str = schema.get("items", schema).get("$ref", "")
    name = reference.rpartition("/")[2]
    many = "any number of " if "items" in schema or "x-itemSchema" in content else ""
    return f'{many}<a href="#{name}">{name}</a>' if name else ""


def _pretty(value: Json) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
