"""What is generated from the settings: the JSON schema, Nextflow's defaults and presets, docs/reference/parameters.md and paper.md."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from template_learning.common.files import replacing
from template_learning.common.stages import ORDER
from template_learning.pipeline.paper import paper_page
from template_learning.settings import Settings, inner_section

NOTICE = "Generated from python/src/template_learning/settings.py by `make docs`; edit there."


def generated_files(root: Path) -> dict[str, str]:
    """Relative path -> content of every generated file; ``root`` is the repository, whose presets are read."""
    files = {
        "nextflow_schema.json": _schema(),
        "conf/generated/defaults.config": f"// {NOTICE}\nparams {_groovy(Settings.model_construct())}\n",
        "docs/reference/parameters.md": _parameters_page(),
        "docs/reference/paper.md": paper_page(root),
        "workflows/stages.nf": _stages_nf(),
    }
    for preset in sorted((root / "presets").glob("*.yml")):
        content = yaml.safe_load(preset.read_text(encoding="utf-8"))
        Settings.model_validate(content)
        files[f"conf/generated/preset_{preset.stem}.config"] = (
            f"// Generated from presets/{preset.name} by `make docs`; edit there.\nparams {_groovy_map(content)}\n"
        )
    return files


def write_generated(root: Path) -> None:
    """Write the generated files below ``root``."""
    for name, content in generated_files(root).items():
        with replacing(root / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _stages_nf() -> str:
    return (
        "// Generated from python/src/template_learning/common/stages.py by `make docs`; edit there.\n\n"
        "// The stages that a run may start and stop at, in their order.\n"
        f"def stage_names() {{\n    return {list(ORDER)}\n}}\n"
    )


def _schema() -> str:
    """The parameters' JSON schema in the shape of the plugin nf-schema: groups in ``$defs``, joined by ``allOf``."""
    groups = {"run": _group("The run", "What a run works on, and where", _properties(_values(Settings)))}
    for name, field in Settings.model_fields.items():
        if _is_section(field):
            groups[name] = _group(name, _meaning(field), _properties({name: field}))
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:template-learning:nextflow_schema",
        "title": "template-learning pipeline parameters",
        "description": "Find a molecule in cryo-electron tomograms with a network trained on simulated tomograms alone",
        "type": "object",
        "$defs": groups,
        "allOf": [{"$ref": f"#/$defs/{name}"} for name in groups],
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _group(title: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "type": "object", "description": description, "properties": properties}


def _properties(fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Each parameter's type, bounds, default and meaning; sections are objects of their own."""
    properties = {}
    for name, field in fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            inner = _properties(model.model_fields)
            properties[name] = {"type": "object", "description": _meaning(field), "properties": inner}
            continue
        shape = _shape(field)
        held = inner_section(model)
        if held is not None:
            shape.pop("$defs")
            shape["items" if shape["type"] == "array" else "additionalProperties"] = {
                "type": "object",
                "description": (held.__doc__ or "").strip(),
                "properties": _properties(held.model_fields),
            }
        options = [option for option in shape.pop("anyOf", []) if option["type"] != "null"]
        for option in options:
            shape |= option
        types = [shape["type"], *(["string"] if shape["type"] == "array" else []), *(["null"] if options else [])]
        shape["type"] = types if len(types) > 1 else types[0]
        shape["description"] = field.description or ""
        if shape.get("default", field.default) is not None:
            shape.setdefault("default", field.default)
        else:
            shape.pop("default", None)
        properties[name] = shape
    return properties


def _meaning(field: FieldInfo) -> str:
    return (getattr(field.annotation, "__doc__", "") or "").strip()


def _shape(field: FieldInfo) -> dict[str, Any]:
    """The field's own JSON schema."""
    return TypeAdapter(Annotated[field.annotation, field]).json_schema()  # type: ignore[arg-type, valid-type, unused-ignore]


def _groovy(model: BaseModel) -> str:
    return _groovy_map({name: getattr(model, name) for name in type(model).model_fields})


def _groovy_map(content: Mapping[str, Any], depth: int = 1) -> str:
    indent = "    " * depth
    lines = []
    for name, value in content.items():
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping) and value:
            lines.append(f"{indent}{name} {_groovy_map(value, depth + 1)}")
        else:
            lines.append(f"{indent}{name} = {_groovy_value(value)}")
    return "{\n" + "\n".join(lines) + "\n" + "    " * (depth - 1) + "}"


def _groovy_value(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, Mapping):
        return "[" + (", ".join(f"{name}: {_groovy_value(one)}" for name, one in value.items()) or ":") + "]"
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        return "[" + ", ".join(map(_groovy_value, value)) + "]"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _parameters_page() -> str:
    parts = [
        "# Parameters",
        f"<!-- {NOTICE} -->",
        "Give them on the command line (`--flex.modes 30`), in a file (`-params-file run.yml`, nested by stage), or take a "
        "preset (`-profile ribosome`, or `-params-file presets/ribosome.yml`). An unknown name or a value out of bounds stops the run before any work.",
        "## The run",
        _table(_values(Settings), ""),
        *_sections_of(Settings, "", "##"),
    ]
    return "\n\n".join(parts) + "\n"


def _sections_of(model: type[BaseModel], prefix: str, heading: str) -> Iterator[str]:
    """Heading, meaning and table of every section in a model, and below it those of its groups."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from (
                f"{heading} {prefix}{name}",
                _meaning(field),
                _table(_values(section), f"{prefix}{name}."),
            )
            yield from _sections_of(section, f"{prefix}{name}.", heading + "#")
        elif inner := inner_section(section):
            one = f"{prefix}{name}." + ("&lt;number from 0&gt;" if get_origin(section) is list else "&lt;name&gt;")
            yield from (f"{heading} {one}", (inner.__doc__ or "").strip(), _table(_values(inner), f"{prefix}{name}.*."))


def _values(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that hold a value, no section."""
    return {name: field for name, field in model.model_fields.items() if not _is_section(field)}


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _table(fields: Mapping[str, FieldInfo], prefix: str) -> str:
    lines = ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = "none" if field.default is None else f"`{_groovy_value(field.default)}`"
        lines.append(f"| `{prefix}{name}` | {default} | {_allowed(field)} | {(field.description or '').replace('|', '/')} |")
    return "\n".join(lines)


def _allowed(field: FieldInfo) -> str:
    """Type and bounds in words, from the field's own JSON schema."""
    shape = _shape(field)
    words = [_words(option) for option in shape.get("anyOf", [shape]) if option.get("type") != "null"]
    return " or ".join(words)


def _words(shape: Mapping[str, Any]) -> str:
    if "enum" in shape:
        return ", ".join(f"`{value}`" for value in shape["enum"])
    if "const" in shape:
        return f"`{shape['const']}`"
    if shape.get("type") == "array":
        items = shape.get("prefixItems")
        return f"{len(items)} x {_words(items[0])}" if items else f"list of {_words(shape['items'])}"
    bounds = [
        f"{sign} {shape[key]:.10g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in shape
    ]
    if "multipleOf" in shape:
        bounds.append(f"multiple of {shape['multipleOf']:g}")
    return " ".join([shape.get("type", "object"), *bounds])
