"""Is the model as fast as when `baseline.jsonl` was measured?"""


def test_the_convolution_is_not_slower(throughput):
    throughput("checks/ci.yaml", "mymodels.conv:build", against="baseline.jsonl", tolerance="25%")
