"""The tasks of Gao et al., LM-BFF, 2021, arXiv:2012.15723, with its manual prompts and the lengths of its code."""

from dataclasses import dataclass, replace

from kronlit.data.tasks import glue
from kronlit.data.tasks.hub import Hub
from kronlit.data.tasks.lm_bff_files import Layout, Treebank
from kronlit.data.tasks.prompt import Prompt
from kronlit.data.tasks.task import Task


@dataclass(frozen=True)
class FewShotTask:
    """A task of a few labelled rows.

    Args:
        task: what a model needs to know of it; its class names are in the order of the integers in LM-BFF's files.
        prompt: LM-BFF's manual one, with the lengths of its code.
        layout: how it lies in LM-BFF's folders; none of what is read from a package.
        treebank: how it lies in the Stanford treebank's files, if it does.
        hub: where the hub has it in LM-BFF's order.
        folder: its name in a folder of the hub's layout, if that is another.
        test: the hub's split to test on.
        cumulative: whether LM-BFF's script shuffles its rows once for each seed up to the one that is asked for.
        unlabelled: whether it has rows that count for nothing, for annotators disagreed on them.
    """

    task: Task
    prompt: Prompt
    layout: Layout | None = None
    treebank: Treebank | None = None
    hub: Hub | None = None
    folder: str | None = None
    test: str = "validation"
    cumulative: bool = False
    unlabelled: bool = False

    @property
    def hub_folder(self) -> str:
        """Its name in a folder of the hub's layout."""
        return self.folder or self.task.name


def glue_hub(name: str) -> Hub:
    """Where the hub has a task of GLUE."""
    return Hub("nyu-mll/glue", name)


def csv_layout(name: str) -> Layout:
    """How a task lies that LM-BFF has as CSV files."""
    return Layout(name, (1,), 0, suffix=".csv", original="test")


NEGATIVE_POSITIVE = ("negative", "positive")
SENTENCE = "sentence: {text}"
YES_NO = ("entailment", "not_entailment")

POLARITY = Prompt("*cls**sent_0*_It_was*mask*.*sep+*", {"negative": "terrible", "positive": "great"})
KIND = Prompt("*cls**sent_0*_This_is*mask*.*sep+*", {"subjective": "subjective", "objective": "objective"})
INFERENCE = Prompt("*cls**sent-_0*?*mask*,*+sentl_1**sep+*", {"entailment": "Yes", "not_entailment": "No"})
PARAPHRASE = Prompt("*cls**sent_0**mask*,*+sentl_1**sep+*", {"not_equivalent": "No", "equivalent": "Yes"})
REVIEWS = replace(POLARITY, first_sent_limit=110, other_sent_limit=50, double_demo=True)

MOVIE_REVIEWS = Task("movie_reviews", ("text",), NEGATIVE_POSITIVE, ("accuracy",), SENTENCE)

# Tasks of GLUE are selected by one metric here.
MNLI = FewShotTask(
    replace(glue.TASKS["mnli"].task, validation=()),
    replace(
        INFERENCE,
        words={"contradiction": "No", "entailment": "Yes", "neutral": "Maybe"},
        max_length=256,
        num_demonstrations=4,
    ),
    Layout("MNLI", (8, 9), -1, glue.NLI, original="dev_matched", validation="dev_matched", test="test_matched"),
    hub=glue_hub("mnli"),
    test="validation_matched",
)

TASKS = {
    known.task.name: known
    for known in (
        FewShotTask(  # of sentences, not GLUE's of phrases
            Task("sst2", ("text",), NEGATIVE_POSITIVE, source=SENTENCE),
            POLARITY,
            Layout("SST-2", (0,), 1),
            Treebank("stsa.binary", "dev", ("-lrb- ", " -rrb-")),
            Hub("SetFit/sst2"),
        ),
        FewShotTask(
            Task(
                "sst5",
                ("text",),
                ("very negative", "negative", "neutral", "positive", "very positive"),
                source=SENTENCE,
            ),
            replace(
                REVIEWS,
                words={
                    "very negative": "terrible",
                    "negative": "bad",
                    "neutral": "okay",
                    "positive": "good",
                    "very positive": "great",
                },
                other_sent_limit=20,
            ),
            csv_layout("sst-5"),
            Treebank("stsa.fine", "test", ("-lrb-", "-rrb-")),
            Hub("SetFit/sst5"),
            test="test",
        ),
        FewShotTask(Task("mr", ("text",), NEGATIVE_POSITIVE, source=SENTENCE), REVIEWS, csv_layout("mr"), test="test"),
        FewShotTask(Task("cr", ("text",), NEGATIVE_POSITIVE, source=SENTENCE), REVIEWS, csv_layout("cr"), test="test"),
        FewShotTask(
            Task("mpqa", ("text",), NEGATIVE_POSITIVE, source=SENTENCE),
            replace(REVIEWS, other_sent_limit=None),
            csv_layout("mpqa"),
            test="test",
        ),
        FewShotTask(
            Task("subj", ("text",), ("subjective", "objective"), source=SENTENCE),
            replace(KIND, first_sent_limit=110, other_sent_limit=50, double_demo=True),
            csv_layout("subj"),
            test="test",
        ),
        FewShotTask(
            Task(
                "trec",
                ("text",),
                ("description", "entity", "abbreviation", "human", "location", "number"),
                source="question: {text}",
            ),
            Prompt(
                "*cls**mask*:*+sent_0**sep+*",
                {
                    "description": "Description",
                    "entity": "Entity",
                    "abbreviation": "Expression",
                    "human": "Human",
                    "location": "Location",
                    "number": "Number",
                },
                first_sent_limit=110,
                double_demo=True,
            ),
            csv_layout("trec"),
            test="test",
        ),
        FewShotTask(
            glue.TASKS["cola"].task,
            replace(KIND, words={"unacceptable": "incorrect", "acceptable": "correct"}),
            Layout("CoLA", (3,), 1),
            hub=glue_hub("cola"),
            cumulative=True,
        ),
        MNLI,
        replace(
            MNLI,
            task=replace(MNLI.task, name="mnli_mm"),
            layout=Layout(
                "MNLI",
                (8, 9),
                -1,
                glue.NLI,
                original="dev_mismatched",
                validation="dev_matched",
                test="test_mismatched",
            ),
            folder="mnli",
            test="validation_mismatched",
        ),
        FewShotTask(
            replace(MNLI.task, name="snli"),
            MNLI.prompt,
            Layout("SNLI", (7, 8), -1, glue.NLI),
            hub=Hub("stanfordnlp/snli", "plain_text"),
            unlabelled=True,
        ),
        FewShotTask(glue.TASKS["qnli"].task, INFERENCE, Layout("QNLI", (1, 2), -1, YES_NO), hub=glue_hub("qnli")),
        FewShotTask(
            glue.TASKS["rte"].task,
            replace(INFERENCE, max_length=256, first_sent_limit=240),
            Layout("RTE", (1, 2), -1, YES_NO),
            hub=glue_hub("rte"),
        ),
        FewShotTask(
            replace(glue.TASKS["mrpc"].task, selection=("f1",)),
            PARAPHRASE,
            Layout("MRPC", (3, 4), 0),
            hub=glue_hub("mrpc"),
        ),
        FewShotTask(
            replace(glue.TASKS["qqp"].task, metrics=("f1", "accuracy"), selection=("f1",)),
            replace(PARAPHRASE, words={"not_duplicate": "No", "duplicate": "Yes"}, num_demonstrations=4),
            Layout("QQP", (3, 4), 5),
            hub=glue_hub("qqp"),
        ),
        FewShotTask(
            replace(glue.TASKS["stsb"].task, selection=("pearson",)),
            replace(PARAPHRASE, words={"low": "No", "high": "Yes"}),
            Layout("STS-B", (7, 8), -1),
            hub=glue_hub("stsb"),
        ),
        FewShotTask(MOVIE_REVIEWS, REVIEWS),
    )
}
