"""What the columns of a table say, each in a sentence or two."""

SPEED = "How many times as fast as {}, timed in the same blocks: 2 is half the time of a step."
INTERVAL = (
    "Where the speed lies with 95% confidence (Student's t over blocks, each of fresh processes); "
    "a dash with fewer than three blocks."
)
MEMORY = "Peak memory of a step over that of {}: 0.1 is a tenth. The lines below name which figure it is."
PUBLISHED = "What papers print for Text at 4K, on other hardware and by several protocols; not measured here."
STEP_TIME = "Milliseconds per step: the median over blocks of the median step in a block."
TOKEN_TIME = "Milliseconds per token of each sequence, after a context of that length."
STATE = "What decoding keeps of all sequences of the batch."
TOKENS = "Positions that a second computes, padding included."
REAL_TOKENS = "Positions per second that hold data; padding is not counted."
PEAK = "Peak memory of a step; the lines below say of what: live tensors on a CPU, torch's allocator on CUDA."
PARAMETERS = "Parameters of the model as built, with its head."
ACTIVATION = "Share of time steps at which attention was on while the model was timed; none for dense models."
BUSY = "Share of a step's time at which the GPU computed something."
