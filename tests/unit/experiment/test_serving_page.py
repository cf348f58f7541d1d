from experiment import serving_page


def entry(server, tuning, rps, *, encoding="json", rows=1, cpu=1000.0, invalid=()):
    return {
        "server": server,
        "tuning": tuning,
        "protocol": "rest",
        "encoding": encoding,
        "rows": rows,
        "connections": 32.0,
        "throughput_rps": rps,
        "latency_ms": {"p50": 1.25, "p99": 9.0},
        "cpu_us_per_request": cpu,
        "rss_mib": 700.4,
        "invalid": list(invalid),
        "implementation": f"{server} 1",
        "settings": {"tuning": tuning, "batch_size": 1 if tuning == "default" else 16},
    }


MEASURED = [
    entry("torchserve", "default", 500.0, cpu=2000.0),
    entry("torchserve", "tuned", 1600.0, cpu=500.0, invalid=["closed"]),
    entry("torchserve", "tuned", 10.0, rows=32),
    entry("tfserving-embedded", "default", 3000.0),
]
RECORD = {
    "command": "python -m experiment.serving_performance --model cnn",
    "created": "2026-01-02T03:04:05+00:00",
    "environment": {"machine": {"cpu": "A CPU", "usable_cores": 2}, "packages": {"torch": "2"}},
    "cores": [0],
}
LIMITS = {
    "handler": {"rows_per_s": {"json 1x1": 1000.0, "json 16x1": 4000.0}},
    "savedmodel": {"rows_per_s": {"tensorflow 16x1": 6000.0}},
    "onnx": {"rows_per_s": {"onnxruntime 1x1": 9.0}},
}


def page(machine="busy"):
    about = {
        "model": "cnn",
        "machine": machine,
        "limits": LIMITS,
        "rows_left_out": [32],
        "measured": MEASURED,
        "ratios": serving_page.ratios(MEASURED),
    }
    return serving_page.render({**RECORD, "models": [about]})


def test_a_ratio_needs_the_same_protocol_encoding_and_rows():
    (found,) = serving_page.ratios(MEASURED)
    assert (found["server"], found["rows"], found["ratio"], found["cpu_ratio"]) == ("torchserve", 1, 3.2, 4.0)


def test_the_page_has_the_runs_figures_the_machine_and_the_command():
    text = page()
    assert "python -m experiment.serving_performance --model cnn" in text
    assert "A CPU, 2 usable cores; servers on cores [0]. **The machine was busy with other work** before cnn." in text
    (tuned,) = [line for line in text.splitlines() if line.startswith("| torchserve | tuned | rest | json | 1 | 32 |")]
    assert tuned == "| torchserve | tuned | rest | json | 1 | 32 | 1,600! | 1,600! | 1.2 | 9.0 | 500 | 700 | 0.40 |"
    (default,) = [line for line in text.splitlines() if line.startswith("| torchserve | default")]
    assert default.endswith("| 0.50 |")
    (embedded,) = [line for line in text.splitlines() if line.startswith("| tfserving-embedded")]
    assert embedded.endswith("| 0.50 |")
    assert "7 of 8 measurements are VALID. No figure marked `!` may be quoted." in text
    assert "| torchserve | tuned | rest | json | 1 | 3.20 | 4.00 |" in text
    assert "Requests of 32 rows take over a second in process and are left out." in text
    assert "TensorFlow Serving's" not in text


def test_settings_over_a_preset_have_their_own_lines():
    measured = [*MEASURED, entry("torchserve", "tuned+batch16", 2000.0, cpu=400.0)]
    assert [(r["tuning"], r["ratio"]) for r in serving_page.ratios(measured)] == [("tuned", 3.2), ("tuned+batch16", 4.0)]
    about = {"model": "cnn", "machine": "at rest", "limits": LIMITS, "rows_left_out": [], "measured": measured}
    text = serving_page.render({**RECORD, "models": [{**about, "ratios": serving_page.ratios(measured)}]})
    assert "| tuned+batch16 | rest | json | 1 | 400 | 250 | 38% |" in text  # what the handler leaves
    assert "- torchserve tuned+batch16: batch_size 16" in text


def test_a_table_without_rows_is_not_there():
    measured = [entry("tfserving-embedded", "tuned", 3000.0)]
    about = {"model": "cnn", "machine": "at rest", "limits": LIMITS, "rows_left_out": [], "measured": measured, "ratios": []}
    text = serving_page.render({**RECORD, "models": [about]})
    assert "Over default" not in text and "What is left" not in text
    assert "| tfserving-embedded | tuned | rest" in text


def test_a_quiet_machine_is_not_called_busy():
    text = page(machine="at rest")
    assert "servers on cores [0]. The machine was at rest before each model." in text
