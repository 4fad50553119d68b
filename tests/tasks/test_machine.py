from robust_lpips.tasks.machine import available_cores, cores_per_task


def test_tasks_share_the_cores():
    assert cores_per_task(1) == available_cores()
    assert cores_per_task(10 * available_cores()) == 1
