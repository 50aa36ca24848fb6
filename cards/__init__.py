"""cards: how good a merged model is, may it be published, the card and the folder to share.

Importing the package imports neither torch nor transformers nor evaluate; the functions that need them do.
"""

from cards.card_check import Finding, check_card
from cards.card_file import CardReport, write_card
from cards.compare import Comparison, compare
from cards.errors import CardError, EvaluationError, PublishError, ResultsError, SuiteError
from cards.evaluate import evaluate
from cards.licence import Verdict, judge_licences
from cards.publish import publish
from cards.publish_plan import PublishPlan
from cards.push import push_to_hub
from cards.results import ModelResult, Results, TaskResult, read_results
from cards.suite import Suite, Task, load_suite

__all__ = [
    "CardError",
    "CardReport",
    "Comparison",
    "EvaluationError",
    "Finding",
    "ModelResult",
    "PublishError",
    "PublishPlan",
    "Results",
    "ResultsError",
    "Suite",
    "SuiteError",
    "Task",
    "TaskResult",
    "Verdict",
    "check_card",
    "compare",
    "evaluate",
    "judge_licences",
    "load_suite",
    "publish",
    "push_to_hub",
    "read_results",
    "write_card",
]
