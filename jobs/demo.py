"""The whole main job on a sample bucket: digit scenes and photographs -> tables -> an HTML page.

    overfeat demo

Writes demo-output/ (bucket, annotations, report.html) in under two minutes on two cores.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.annotate import describe
from jobs.entrypoint import Result, make_main
from pipelines.demo import SURE, DemoConfig, run_demo


def run(config: DemoConfig) -> Result:
    """Run the demo.

    Args:
        config: The flags.

    Returns:
        Counts, and where the tables and the page are.
    """
    report = run_demo(config)
    output = report.annotated.output
    text = "\n".join(
        [
            describe(report.annotated),
            "",
            f">>> boxes = pd.read_parquet({output + '/boxes'!r})",
            ">>> best = boxes.nlargest(10, 'evidence')",
            ">>> best['image'] = best['image'].str.split('/').str[-1]",
            ">>> print(best.to_string(index=False, float_format='%.2f'))",
            report.table,
            "",
            f">>> sure = boxes.query({SURE!r})",
            ">>> sure.groupby('label')['image'].agg(boxes='size', images='nunique')",
            report.labels,
            "",
            f"pictures with their boxes: {report.page}",
        ]
    )
    return Result(values=asdict(report), text=text)


main = make_main(DemoConfig, run, name="demo", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
