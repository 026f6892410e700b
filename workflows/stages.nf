// Generated from python/src/template_learning/common/stages.py by `make docs`; edit there.

// The stages that a run may start and stop at, in their order.
def stage_names() {
    return ['flex', 'volume', 'design', 'tetris', 'simulate', 'reconstruct', 'label', 'train', 'calibrate', 'finetune', 'segment', 'cluster', 'match', 'export', 'evaluate', 'report']
}
