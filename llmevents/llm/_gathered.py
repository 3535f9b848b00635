"""Usage, gathered from the parts of one response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llmevents.llm import _forms, _shapes
from llmevents.llm._cost import stated_cost
from llmevents.llm._counts import Plan
from llmevents.llm._fields import Fields, Path, as_text, dig, fields
from llmevents.llm._forms import Form
from llmevents.llm._raw import Plain, plain
from llmevents.llm._settle import settle
from llmevents.llm._shape import Shape
from llmevents.llm._sums import Slots
from llmevents.llm.usage import Usage, made


PLANS: Mapping[str, Plan] = {
    each.name: Plan(each) for each in vars(_shapes).values() if isinstance(each, Shape)
}
"""Every shape, compiled, by its name."""

DETECTED: tuple[Plan, ...] = tuple(PLANS[shape.name] for shape in _shapes.SHAPES)

HINTS: Mapping[str, Plan] = {
    **{plan.shape.name: plan for plan in DETECTED},
    **dict.fromkeys(("anthropic", "langchain", "responses"), PLANS["input_tokens"]),
}
"""What a reader may be told to expect."""

TIERS: Mapping[str, str] = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "PROVISIONED_THROUGHPUT": "provisioned_throughput",
}
"""Vertex' ``trafficType`` -> the tier it amounts to (google-genai 3.4)."""


class Gathered:
    """What the parts of one response have stated so far.

    Of every count the last one holds: counts of streams are cumulative, and a part
    need not repeat them all. A response with another id starts anew.

    Attributes:
        cost: In nano-dollars; None while none is stated.
        tier: The service tier, as usage objects state it.
    """

    __slots__ = (
        "_beside",
        "_fallback",
        "_id",
        "_lengths",
        "_plan",
        "_plans",
        "_slots",
        "_sources",
        "cost",
        "tier",
    )

    def __init__(self, only: Plan | None = None) -> None:
        self._plans = DETECTED if only is None else (only,)
        self._id: str | None = None
        self._sources: dict[tuple[str, Path], tuple[Plan, object]] | None = None
        self.cost: int | None = None
        self.tier: str | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all counts."""
        self._plan: Plan | None = None
        self._slots: Slots = []
        self._beside: dict[Plan, Slots] | None = None
        self._fallback: dict[Plan, Slots] | None = None
        self._lengths: dict[str, int] | None = None

    def read(
        self, source: object, part: Fields, form: Form, response_id: str | None
    ) -> bool:
        """Take over what *source* states, of which *part* are the fields.

        Returns:
            Whether it states any usage.
        """
        found = False
        for place in form.usage:
            stated = part.get(place) if type(place) is str else dig(source, place)
            if stated is not None and self._read(stated, form, place, response_id):
                found = True
                break
        for place, shape in form.extra:
            self._beside = _merged(self._beside, PLANS[shape.name], dig(part, place))
        for field, place in form.lists.items():
            listed = dig(part, place)
            if isinstance(listed, (list, tuple)):
                self._count(field, len(listed))
                found = True
        if form.one:
            self._count(form.one, 1 + (self._lengths or {}).get(form.one, 0))
        if form is _forms.DATA and part.get("created") is not None:
            self._count_images(part.get("data"))
        return found

    def fall_back(self, shape: Shape, source: object) -> None:
        """Take over what counts only where the response itself says nothing."""
        plan = PLANS[shape.name]
        merged = _merged(self._fallback, plan, source)
        if merged is not self._fallback:
            self._fallback = merged
            self._keep(shape.name, (), plan, source)

    def usage(self) -> Usage | None:
        """Return what is known, or None if nothing is."""
        known = {} if self._plan is None else self._plan.evaluate(self._slots)
        for plan, slots in (self._fallback or {}).items():
            spare = plan.evaluate(slots)
            wanted = ("input_tokens", "output_tokens") if known else tuple(spare)
            for field in wanted:
                if field in spare:
                    known.setdefault(field, spare[field])
        if self._lengths or self._beside:
            self._add_others(known)
        if not known:
            return None
        settle(known)
        return made(known)

    def raw(self) -> Iterator[Plain]:
        """Yield the usage objects themselves, the last of each place."""
        for (form, place), (plan, source) in (self._sources or {}).items():
            whole = place == _forms.WHOLE and not form.endswith(_forms.BARE.name)
            yield plain(plan, source, whole=whole)

    def take_sources(self, inner: Gathered) -> None:
        """Keep the usage objects of a request within the same call as well."""
        before = len(self._sources or ())
        for (form, place), (plan, source) in (inner._sources or {}).items():
            self._keep(f"{before}.{form}", place, plan, source)

    def _add_others(self, known: dict[str, int]) -> None:
        """Add what stands beside the usage; a 0 that stands alone says nothing."""
        others = dict(self._lengths or {})
        for plan, slots in (self._beside or {}).items():
            others.update(plan.evaluate(slots))
        if known or any(others.values()):
            for field, count in others.items():
                known.setdefault(field, count)

    def _read(
        self, source: object, form: Form, place: Path, response_id: str | None
    ) -> bool:
        usage = fields(source)
        plan = None if usage is None else self._fitting(usage, form)
        if usage is None or plan is None:
            return False
        is_other = response_id is not None and self._id not in (None, response_id)
        if plan is self._plan and not is_other and not form.adds:
            if not plan.merge(usage, self._slots, source):
                return False
        else:
            fresh = plan.slots()
            if not plan.merge(usage, fresh, source):
                return False
            if form.adds and plan is self._plan:
                fresh = _added(plan, self._slots, fresh)
            elif is_other:
                self.clear()
            self._plan, self._slots = plan, fresh
        if response_id is not None:
            self._id = response_id
        self._keep(form.name, place, plan, source)
        if plan.shape.cost:
            self.cost = stated_cost(usage, self.cost)
        self.tier = _tier(usage, plan) or self.tier
        return True

    def _fitting(self, usage: Fields, form: Form) -> Plan | None:
        """Return the first plan that *usage* fits."""
        plans = _OF_FORM.get(form.name, DETECTED)
        for plan in plans if self._plans is DETECTED else self._plans:
            for mark in plan.marks:
                if usage.get(mark) is not None:
                    return plan
        return None

    def _keep(self, form: str, place: Path, plan: Plan, source: object) -> None:
        if self._sources is None:
            self._sources = {}
        self._sources[form, place] = (plan, source)

    def _count(self, field: str, number: int) -> None:
        if self._lengths is None:
            self._lengths = {}
        self._lengths[field] = number

    def _count_images(self, data: object) -> None:
        """Count OpenAI's images; a list of embeddings does not say when it was made."""
        first = fields(data[0]) if isinstance(data, list) and data else None
        if first is not None and (first.get("b64_json") or first.get("url")):
            self._count("images", len(data))  # type: ignore[arg-type]  # a list, says the line above


_OF_FORM: Mapping[str, tuple[Plan, ...]] = {
    form.name: tuple(PLANS[shape.name] for shape in form.shapes)
    for form in vars(_forms).values()
    if isinstance(form, Form) and form.shapes
}
"""Name of a form -> the only plans for its usage."""


def _merged(
    known: dict[Plan, Slots] | None, plan: Plan, source: object
) -> dict[Plan, Slots] | None:
    """Return *known* with what *source* states."""
    usage = fields(source)
    slots = (known or {}).get(plan) or plan.slots()
    if usage is not None and plan.merge(usage, slots, source):
        return {**(known or {}), plan: slots}
    return known


def _tier(usage: Fields, plan: Plan) -> str | None:
    tier = usage.get("service_tier") or usage.get("serviceTier")
    if plan.shape is _shapes.GOOGLE and tier is None:
        traffic = usage.get("trafficType") or usage.get("traffic_type")
        return TIERS.get(as_text(traffic) or "")
    # Anthropic's fast mode has prices of its own, as a tier has.
    if plan.shape is _shapes.INPUT and usage.get("speed") == "fast":
        return "fast"
    return as_text(tier)


def _added(plan: Plan, slots: Slots, more: Slots) -> Slots:
    """Return what a chunk of LangChain's makes of the chunks before it.

    Its chunks are made to be added up. An integration that states the whole input once
    more gives cumulative counts instead, and these replace the earlier ones.
    """
    stated = plan.slot_of("input_tokens")
    is_restated = slots[stated] and more[stated]
    return [
        old if new is None else new if is_restated else new + (old or 0)
        for old, new in zip(slots, more, strict=True)
    ]
