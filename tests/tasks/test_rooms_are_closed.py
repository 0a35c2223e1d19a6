"""Nothing outside of `tasks/` asks which task it is: neither by name, nor by type, nor by reaching into one's room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nanocv_cli
from nanocv_cli.rooms import BUILT_IN, Room

PACKAGE = Path(nanocv_cli.__file__).parent
# The table of tasks, and the values of keys where nobody gives one.
MAY_NAME_TASKS = {"rooms.py", "config/schema.py"}
# Words that others chose: Triton's extension and its parameter, COCO's key.
MAY_USE_THE_WORD = {
    "classification": ("serving/",),
    "segmentation": ("data/formats/coco.py", "data/formats/coco_masks.py"),
}
DEFAULT = "classification"  # of `model.task`


def outside() -> Iterator[tuple[str, ast.Module]]:
    """The modules that no task's room holds, each by its path in the package, parsed."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("tasks/"):
            yield name, ast.parse(path.read_text())


def room_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports from the room of one task, with their lines."""
    for node in ast.walk(tree):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "nanocv_cli.tasks":
            modules += [f"nanocv_cli.tasks.{alias.name}" for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[:2] == ["nanocv_cli", "tasks"] and len(parts) > 2 and parts[2] in BUILT_IN:
                yield node.lineno, module


def task_names_in(tree: ast.AST, name: str) -> Iterator[tuple[int, str]]:
    """Texts that are the name of a task, with their lines."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and node.value in BUILT_IN):
            continue
        if not name.startswith(MAY_USE_THE_WORD.get(node.value, ())):
            yield node.lineno, node.value


def task_types() -> set[str]:
    """Names of all classes that are defined in `tasks/`."""
    return {
        node.name
        for path in (PACKAGE / "tasks").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


def type_questions(tree: ast.AST, types: set[str]) -> Iterator[tuple[int, str]]:
    """`isinstance` and `issubclass` on a type of the tasks, and `getattr` and `hasattr` on what is called a task."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        words = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        words |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        if node.func.id in ("isinstance", "issubclass") and words & types:
            yield node.lineno, ast.unparse(node)
        if node.func.id in ("getattr", "hasattr") and words & {"task", "export_model", "evaluator", "postprocessor"}:
            yield node.lineno, ast.unparse(node)


def task_comparisons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Comparisons of something's task with a text, and `match` on one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            about_task = any(isinstance(side, ast.Attribute) and side.attr == "task" for side in sides)
            if about_task and any(isinstance(side, ast.Constant | ast.Set | ast.List) for side in sides):
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Match) and isinstance(node.subject, ast.Attribute) and node.subject.attr == "task":
            yield node.lineno, ast.unparse(node.subject)


def test_no_room_is_imported_from_outside() -> None:
    found = [f"{name}:{line} {what}" for name, tree in outside() for line, what in room_imports(tree)]
    assert not found, "\n".join(found)


def test_no_task_is_named_outside() -> None:
    found = [
        f"{name}:{line} {what!r}"
        for name, tree in outside()
        if name not in MAY_NAME_TASKS
        for line, what in task_names_in(tree, name)
    ]
    assert not found, "\n".join(found)


def test_the_schema_names_the_default_alone() -> None:
    tree = ast.parse((PACKAGE / "config" / "schema.py").read_text())
    assert {what for _, what in task_names_in(tree, "config/schema.py")} <= {DEFAULT}


def test_nobody_outside_asks_for_the_type_of_a_task() -> None:
    types = task_types()
    found = [
        f"{name}:{line} {what}"
        for name, tree in outside()
        for line, what in (*type_questions(tree, types), *task_comparisons(tree))
    ]
    assert not found, "\n".join(found)


def test_the_law_is_seen_to_be_broken() -> None:
    breaches = ast.parse(
        "from nanocv_cli.tasks.detection.task import Detection\n"
        "if card.task == 'detection': pass\n"
        "if isinstance(task, Detection): pass\n"
        "if getattr(task, 'boxes', False): pass\n"
    )
    assert [line for line, _ in room_imports(breaches)] == [1]
    assert [line for line, _ in task_names_in(breaches, "commands/infer.py")] == [2]
    assert [line for line, _ in task_comparisons(breaches)] == [2]
    assert [line for line, _ in type_questions(breaches, task_types())] == [3, 4]
    assert all(isinstance(one, Room) for one in BUILT_IN.values())
