"""What `mutants.py` changes in a file: each sign, comparison and operand order flipped, each mask and prior dropped."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "raresight"
METHODS = SOURCE / "strategies"
SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
BITS = {ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPPOSITES = (("amax", "amin"), ("max", "min"), ("maximum", "minimum"), ("argmax", "argmin"), ("any", "all"))
OPPOSITE = {one: other for pair in OPPOSITES for one, other in (pair, pair[::-1])}
ASCENDING = ("largest", "descending")
# what says which labels count, or how often something occurs: dropped where it scales, shifts, selects or is handed on
FACTS = (
    *("mask", "known", "present", "both", "drawable", "member", "judged", "seen"),
    *("prior", "weight", "offset", "rarity", "chance", "margin"),
)


def short(file: Path) -> str:
    """The path of a file that is changed, as keys and tables name it: a method's own within the methods."""
    return str(file.relative_to(METHODS if file.is_relative_to(METHODS) else SOURCE))


@dataclass(frozen=True)
class Mutant:
    """One change of one file: where it stands, what stood there, and what stands there now."""

    file: Path
    line: int
    change: str
    text: str  # of the file, as it was read
    place: tuple[int, int]  # which node, and which of its changes
    inside: bool  # of a function's body

    @property
    def key(self) -> str:
        return f"{short(self.file)}: {self.change}"

    @property
    def source(self) -> str:
        tree = ast.parse(self.text)
        node = next(item for at, item in enumerate(ast.walk(tree)) if at == self.place[0])
        return ast.unparse(_Replace(node, list(_changes(node))[self.place[1]]).visit(tree))


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Every mutant of one file, each differing from it in one place."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    silent = {id(inner) for node in ast.walk(tree) for words in _silent(node) for inner in ast.walk(words)}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    bodies = {id(inner) for function in functions for line in function.body for inner in ast.walk(line)}
    changes = Counter[str]()
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in silent:
            continue
        here = set[str]()
        for option, change in enumerate(_changes(node)):
            words = f"{ast.unparse(node)} -> {ast.unparse(change)}"
            if words in here:
                continue
            here.add(words)
            changes[words] += 1
            again = f" (no. {changes[words]})" if changes[words] > 1 else ""
            yield Mutant(file, node.lineno, words + again, text, (number, option), id(node) in bodies)


def _silent(node: ast.AST) -> list[ast.AST]:
    """Parts of a node that compute nothing: annotations and the words of a message."""
    words = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.JoinedStr | ast.Raise):
        words.append(node)
    if isinstance(node, ast.Module):  # a name for a type, float | None
        values = [line.value for line in node.body if isinstance(line, ast.Assign)]
        words += [value for value in values if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)]
    return [item for item in words if item is not None]


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: ast.AST) -> None:
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> ast.AST:
        return self.change if node is self.target else super().generic_visit(node)


def _is_fact(node: ast.AST) -> bool:
    return any(fact in ast.unparse(node).lower() for fact in FACTS)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    if isinstance(node, ast.UnaryOp):
        # -1 alone is an index, an axis or a sentinel; as an operand or a factor it is a sign (below)
        if not (isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)):
            yield node.operand
    elif isinstance(node, ast.BinOp):
        yield from _arithmetic(node)
    elif isinstance(node, ast.AugAssign) and type(node.op) in SWAPPED:
        yield ast.AugAssign(node.target, SWAPPED[type(node.op)](), node.value)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            for other in COMPARED[type(op)]:
                yield ast.Compare(node.left, [*node.ops[:place], other(), *node.ops[place + 1 :]], node.comparators)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        by_name = isinstance(node.slice, ast.Name | ast.Attribute | ast.Compare)
        if by_name and _is_fact(node.slice):
            yield node.value


def _arithmetic(node: ast.BinOp) -> Iterator[ast.expr]:
    kind = type(node.op)
    for others in (SWAPPED, BITS):
        if kind in others:
            yield ast.BinOp(node.left, others[kind](), node.right)
    if isinstance(node.op, ORDERED):
        yield ast.BinOp(node.right, node.op, node.left)
    if isinstance(node.left, ast.UnaryOp) and isinstance(node.left.operand, ast.Constant):
        yield ast.BinOp(node.left.operand, node.op, node.right)
    if isinstance(node.right, ast.UnaryOp) and isinstance(node.right.operand, ast.Constant):
        yield ast.BinOp(node.left, node.op, node.right.operand)
    if kind in SWAPPED or kind in BITS:
        for kept, dropped in ((node.left, node.right), (node.right, node.left)):
            if _is_fact(dropped):
                yield ast.UnaryOp(ast.USub(), kept) if isinstance(node.op, ast.Sub) and kept is node.right else kept


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in OPPOSITE and isinstance(node.func, ast.Attribute):
        yield ast.Call(ast.Attribute(node.func.value, OPPOSITE[name], ast.Load()), node.args, node.keywords)
    if name in OPPOSITE and isinstance(node.func, ast.Name):
        yield ast.Call(ast.Name(OPPOSITE[name], ast.Load()), node.args, node.keywords)
    if name == "where" and len(node.args) == 3:
        condition, yes, no = node.args
        yield ast.Call(node.func, [condition, no, yes], node.keywords)
        yield yes
    if name == "lerp" and len(node.args) == 3:
        yield ast.Call(node.func, [node.args[1], node.args[0], node.args[2]], node.keywords)
    filling = name in ("masked_fill", "masked_fill_", "nan_to_num", "where") and len(node.args) < 3
    if filling and isinstance(node.func, ast.Attribute):
        yield node.func.value
    for place, given in enumerate(node.args):
        # a mask or weight that is handed on: ones in its stead
        if isinstance(given, ast.Name | ast.Attribute) and ast.unparse(given).split(".")[-1] in ("mask", "weight"):
            shape = ast.Attribute(given, "shape", ast.Load())
            ones = ast.Call(ast.Attribute(given, "new_ones", ast.Load()), [shape], [])
            yield ast.Call(node.func, [*node.args[:place], ones, *node.args[place + 1 :]], node.keywords)
    for place, keyword in enumerate(node.keywords):
        flipped: ast.expr | None = None
        if keyword.arg in ASCENDING and isinstance(keyword.value, ast.Constant):
            flipped = ast.Constant(not keyword.value.value)
        elif keyword.arg == "alpha" and isinstance(keyword.value, ast.UnaryOp):
            flipped = keyword.value.operand
        if flipped is not None:
            keywords = [*node.keywords[:place], ast.keyword(keyword.arg, flipped), *node.keywords[place + 1 :]]
            yield ast.Call(node.func, node.args, keywords)
