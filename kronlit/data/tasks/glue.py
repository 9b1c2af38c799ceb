"""The tasks of GLUE: Wang et al., 2019, arXiv:1804.07461.

Sources after Mahabadi et al., Compacter, 2021, arXiv:2106.04647, their code's seq2seq/data/tasks.py. The class names
are those of the hub data set nyu-mll/glue, the numbers of rows those that gluebenchmark.com asks for.
"""

from kronlit.data.tasks.benchmark import BenchmarkTask, Table
from kronlit.data.tasks.task import Task, option_values

NLI = ("entailment", "neutral", "contradiction")
PREMISE_HYPOTHESIS = "premise: {premise} hypothesis {hypothesis}"  # the authors' code has no second colon
NUMBERS = (0, 1)

TASKS = {
    known.task.name: known
    for known in (
        BenchmarkTask(
            task=Task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), "sentence: {sentence}"),
            tables=(Table("CoLA.tsv", 1063),),
            submitted=NUMBERS,
            mahabadi="halves",
        ),
        BenchmarkTask(
            task=Task("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), "sentence: {sentence}"),
            tables=(Table("SST-2.tsv", 1821),),
            submitted=NUMBERS,
            mahabadi="thousand",
        ),
        BenchmarkTask(
            task=Task(
                "mrpc",
                ("sentence1", "sentence2"),
                ("not_equivalent", "equivalent"),
                ("f1", "accuracy"),
                option_values("sentence1", "sentence2"),
            ),
            tables=(Table("MRPC.tsv", 1725),),
            submitted=NUMBERS,
            mahabadi="halves",
        ),
        BenchmarkTask(
            task=Task(
                "qqp",
                ("question1", "question2"),
                ("not_duplicate", "duplicate"),
                ("accuracy", "f1"),
                option_values("question1", "question2"),
            ),
            tables=(Table("QQP.tsv", 390_965),),
            submitted=NUMBERS,
            mahabadi="thousand",
        ),
        BenchmarkTask(
            task=Task(
                "stsb",
                ("sentence1", "sentence2"),
                (),
                ("pearson", "spearman"),
                option_values("sentence1", "sentence2"),
                span=(0.0, 5.0),
            ),
            tables=(Table("STS-B.tsv", 1379),),
            mahabadi="halves",
        ),
        BenchmarkTask(
            task=Task("mnli", ("premise", "hypothesis"), NLI, ("accuracy",), PREMISE_HYPOTHESIS, ("mismatched",)),
            tables=(Table("MNLI-m.tsv", 9796, "test_matched"), Table("MNLI-mm.tsv", 9847, "test_mismatched")),
            mahabadi={"validation": "validation_mismatched", "test": "validation_matched"},
            official={"validation": "validation_matched", "test": "test_matched"},
        ),
        BenchmarkTask(
            task=Task(
                "qnli",
                ("question", "sentence"),
                ("entailment", "not_entailment"),
                ("accuracy",),
                option_values("question", "sentence"),
            ),
            tables=(Table("QNLI.tsv", 5463),),
            mahabadi="thousand",
        ),
        BenchmarkTask(
            task=Task(
                "rte",
                ("sentence1", "sentence2"),
                ("entailment", "not_entailment"),
                ("accuracy",),
                option_values("sentence1", "sentence2"),
            ),
            tables=(Table("RTE.tsv", 3000),),
            mahabadi="halves",
        ),
        BenchmarkTask(
            task=Task(
                "wnli",
                ("sentence1", "sentence2"),
                ("not_entailment", "entailment"),
                ("accuracy",),
                option_values("sentence1", "sentence2"),
            ),
            tables=(Table("WNLI.tsv", 146),),
            submitted=NUMBERS,
            mahabadi="halves",
        ),
        BenchmarkTask(
            task=Task("ax", ("premise", "hypothesis"), NLI, ("matthews",), PREMISE_HYPOTHESIS),
            tables=(Table("AX.tsv", 1104),),
            predicted_by="mnli",
        ),
    )
}
