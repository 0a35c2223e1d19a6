"""A fifth task, as another package would bring it: how many flowers an image shows.

Regression, measured by mean absolute error. All of it stands in this folder; nothing of nanocv knows of it.
"""

from nanocv_cli.rooms import Room, Score

ROOM = Room(
    task="tests.fifth_task.task:Counting",
    score=Score("mae", lowest_is_best=True, is_share=False),
    postprocessor="tests.fifth_task.postprocessor:CountingPostprocessor",
    recipe="tests.fifth_task.config:Recipe",
    readers={"counts": "tests.fifth_task.labels:READER"},
    networks={"counter": "tests.fifth_task.network:build_counter"},
)
