"""Run -> Page: which sections there are and in what order. A new section is one more line here."""

from __future__ import annotations

from report import experiment, measurements
from report.experiment import Experiment
from report.measurements import Measurement
from report.page import Page, Section
from report.records import Run
from report.sections import (
    breakdown,
    curves,
    environment,
    equality,
    overview,
    rates,
    serving,
    terms,
    training,
    training_only,
    tuning,
    validity,
    verdict,
)
from report.sections import context as contexts


def page(run: Run) -> Page:
    """The whole page, read from the top: what is said, why it may be said, the figures, what does not count."""
    if not run.summary:
        return training_only.page(run)
    found = measurements.load(run)
    compared = experiment.load(run, found)
    context = contexts.of(run, found)
    return Page(
        run=run.name,
        title=overview.title(context),
        subtitle=overview.subtitle(run, context),
        lead=overview.lead(run, context, found, compared),
        sections=[
            *([] if compared is None else [verdict.section(compared)]),
            overview.compared(run, context),
            equality.section(run),
            *(_load_test(run, found) if compared is None else _comparison(compared)),
            training.section(run),
            *([] if compared is None else [tuning.section(compared)]),
            validity.section(found, compared),
            terms.section(),
            environment.section(run, context, found, compared),
        ],
    )


def _load_test(run: Run, found: list[Measurement]) -> list[Section]:
    """Every measurement by itself; the points of a sweep are one curve."""
    single = [m for m in found if m.scenario != rates.SWEEP]
    figures = [serving.throughput(single), serving.latency(single)] if single or not found else []
    return [*figures, rates.section(run, found)]


def _comparison(compared: Experiment) -> list[Section]:
    """Figures over visits."""
    return [curves.throughput(compared), curves.latency(compared), breakdown.section(compared), curves.ways(compared)]
