"""
Imports point down: the floors of CONTRIBUTING.md, held against the code.

The rules are read from the source with `ast`, so that an import counts wherever it
stands, in a function or under `TYPE_CHECKING` too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

WORDS = frozenset({"errors", "limits", "names", "settings", "interfaces"})
ASSEMBLY = frozenset(
    {
        *(
            "service",
            "assembly",
            "auth",
            "embed",
            "banner",
            "checkup",
            "log",
            "process",
            "tap",
        ),
        *("console", "cli"),
    }
)

# What stands on each floor, lowest first. Words may use each other, and so may the
# parts of the assembly; every other entry is a package that uses no neighbour.
FLOORS: tuple[frozenset[str], ...] = (
    WORDS,
    frozenset({"wire"}),
    frozenset({"access", "scanning", "vault"}),
    frozenset({"intake"}),
    frozenset({"net"}),
    ASSEMBLY,
)
USED_BY_CLIENT = WORDS | {"wire", "net"}

ALLOWED: dict[str, frozenset[str]] = {"client": USED_BY_CLIENT}
_below: frozenset[str] = frozenset()
for _floor in FLOORS:
    for _room in _floor:
        ALLOWED[_room] = _below
        if _floor is WORDS:
            ALLOWED[_room] |= WORDS
        if _floor is ASSEMBLY:
            ALLOWED[_room] |= ASSEMBLY | {"client"}
    _below |= _floor

# Where no event loop is known of. The wire has no sockets and no clock either:
# bytes and the time are passed in.
LOOPS = frozenset({"twisted", "asyncio"})
IMPURE = LOOPS | {"OpenSSL", "select", "socket", "ssl", "threading", "time"}
FORBIDDEN: dict[str, frozenset[str]] = {"wire": IMPURE} | dict.fromkeys(WORDS, LOOPS)


@attrs.frozen
class Import:
    """One imported name: `target` is the module with the name taken from it."""

    line: int
    target: str
    by_type_checker: bool
    at_module_level: bool


def imports_of(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """
    Every import in a module's source, with relative ones made absolute.

    `from a.b import c` has the target `a.b.c`, whatever `c` is.
    """
    found: list[Import] = []

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = node.module or ""
        if node.level:
            parts = module.split(".")
            up = node.level - is_package
            parents = parts[: len(parts) - up]
            base = ".".join([*parents, base] if base else parents)
        yield from (f"{base}.{alias.name}" for alias in node.names)

    def visit(node: ast.AST, *, typing: bool, top: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(
                Import(node.lineno, target, typing, top) for target in targets(node)
            )
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                visit(statement, typing=True, top=top)
            for statement in node.orelse:
                visit(statement, typing=typing, top=top)
            return
        inner = top and not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        for child in ast.iter_child_nodes(node):
            visit(child, typing=typing, top=inner)

    visit(ast.parse(source), typing=False, top=True)
    return found


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """
    What is wrong with a module's imports, a line of words for each.

    Args:
        module: the module's full name, such as `securerecv.wire.lines`.
        source: its source.
        is_package: it is an `__init__.py`, so relative imports start at itself.
    """
    room = module.split(".")[1] if "." in module else ""
    if room and room not in ALLOWED:
        return [f"{module} stands on no floor"]
    allowed = ALLOWED.get(room, frozenset())
    wrong: list[str] = []
    for item in imports_of(module, source, is_package=is_package):
        where = f"{module}:{item.line}"
        top, _, rest = item.target.partition(".")
        if top == "securerecv":
            other = rest.partition(".")[0]
            if other in ALLOWED and other != room and other not in allowed:
                wrong.append(f"{where} {room or module} may not use {other}")
            elif other == "*":
                wrong.append(f"{where} a star does not say what it takes")
        elif top in FORBIDDEN.get(room, ()) and not item.by_type_checker:
            wrong.append(f"{where} {room} may not use {top}")
        if item.at_module_level and (
            f"{item.target}.".startswith("twisted.internet.reactor.")
        ):
            wrong.append(f"{where} the reactor is chosen by the program")
    return wrong


class FloorsTests(SynchronousTestCase):
    """The code keeps to the floors."""

    def test_imports_point_down(self) -> None:
        """Every module has its floor and imports only from floors below it."""
        files = sorted((ROOT / "securerecv").rglob("*.py"))
        self.assertGreater(len(files), 1)
        wrong: list[str] = []
        for file in files:
            parts = file.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            wrong += violations(
                ".".join(parts[:-1] if is_package else parts),
                file.read_text("utf-8"),
                is_package=is_package,
            )
        self.assertEqual(wrong, [])

    def test_plugin_folder(self) -> None:
        """`twisted/` holds plugins and nothing that would hide the real Twisted."""
        files = [file.name for file in (ROOT / "twisted").rglob("*.py")]
        self.assertEqual(files, ["securerecv_plugin.py"])


class SelfCheckTests(SynchronousTestCase):
    """The test above would see a wrong import, and lets right ones pass."""

    def test_wrong_ones_are_seen(self) -> None:
        """Every way to write an import that points up or sideways is seen."""
        for module, source in [
            ("securerecv.wire.lines", "from securerecv.vault.store import Store"),
            ("securerecv.wire.lines", "import securerecv.vault.store"),
            ("securerecv.wire.lines", "from securerecv import vault"),
            ("securerecv.wire.lines", "from ..vault import store"),
            ("securerecv.wire.lines", "from .. import vault"),
            ("securerecv.wire.lines", "def f():\n    from securerecv import net"),
            ("securerecv.wire.lines", "if TYPE_CHECKING:\n    import securerecv.net"),
            ("securerecv.wire.lines", "from securerecv import *"),
            ("securerecv.wire.lines", "import twisted.internet.defer"),
            ("securerecv.wire.lines", "from time import monotonic"),
            ("securerecv.errors", "from twisted.internet.defer import Deferred"),
            ("securerecv.errors", "from .wire import lines"),
            ("securerecv.access.realm", "from securerecv.vault import store"),
            ("securerecv.vault.store", "from securerecv.access import realm"),
            ("securerecv.scanning.scanner", "from securerecv.vault import store"),
            ("securerecv.intake.desk", "from securerecv.net import tcp"),
            ("securerecv.net.tcp", "from securerecv.service import make"),
            ("securerecv.net.tcp", "from securerecv.client import session"),
            ("securerecv.client.session", "from securerecv.intake import desk"),
            ("securerecv.client.session", "import securerecv.cli.main"),
            ("securerecv.cli.main", "from twisted.internet import reactor"),
            ("securerecv.tap", "import twisted.internet.reactor"),
            ("securerecv.tap", "class A:\n    from twisted.internet import reactor"),
            ("securerecv.helpers", ""),
            ("securerecv", "from securerecv.errors import PeerError"),
        ]:
            self.assertEqual(len(violations(module, source)), 1, (module, source))

    def test_packages_are_seen(self) -> None:
        """A relative import in an `__init__.py` starts at the package itself."""
        source = "from ..vault import store"
        self.assertTrue(violations("securerecv.wire", source, is_package=True))
        source = "from .vault import store"
        self.assertFalse(violations("securerecv.wire", source, is_package=True))

    def test_right_ones_pass(self) -> None:
        """Imports that point down pass, and so do those within one room."""
        for module, source in [
            ("securerecv.wire.lines", "from securerecv.wire.verbs import VERBS"),
            ("securerecv.wire.lines", "from . import verbs"),
            ("securerecv.wire.lines", "from securerecv import __version__, limits"),
            ("securerecv.settings", "from securerecv.errors import OperatorError"),
            (
                "securerecv.interfaces",
                "if TYPE_CHECKING:\n    from twisted.internet.defer import Deferred",
            ),
            ("securerecv.intake.desk", "from securerecv.access import realm"),
            ("securerecv.net.tcp", "from twisted.internet.protocol import Protocol"),
            ("securerecv.client.session", "from securerecv.net.tls import context"),
            ("securerecv.cli.main", "from securerecv.client import session"),
            ("securerecv.cli.main", "from securerecv.service import make"),
            ("securerecv.tap", "def f():\n    from twisted.internet import reactor"),
        ]:
            self.assertEqual(violations(module, source), [], (module, source))
