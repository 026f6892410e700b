// Simulated tomograms that some stage did not finish: the run goes on without them while enough are left.

// ``designed`` is [[id, split], ...], ``made`` [[stage, id], ...] of all that the ``stages`` with one task a tomogram made.
// The rows that are not there, [[id, split, stage], ...]; it ends the run where a split has less than the share ``least`` left.
def left_out(designed, made, stages, least) {
    def there = made.toSet()
    def missing = designed
        .collect { id, split -> [id: id, split: split ?: 'train', stage: stages.find { stage -> !([stage, id] in there) }] }
        .findAll { one -> one.stage }
    def named = missing.groupBy { one -> one.split }.collectEntries { split, rows ->
        [split, rows.collect { one -> "${one.id} (${one.stage.toUpperCase()})" }.toSorted().join(', ')]
    }
    designed.countBy { _id, split -> split ?: 'train' }.each { split, count ->
        def left = count - missing.count { one -> one.split == split }
        if (left < least * count - 1e-9) {
            error("of ${count} ${split} tomograms ${left} are left, without ${named[split]}; at least ${least * 100} % of each split were expected (parameter minimum_fraction_left). With -resume they are tried again; what went wrong: setup/nextflow.sh log last -f name,stderr -filter \"status == 'FAILED'\"")
        }
    }
    named.each { split, rows -> log.warn("the run goes on without ${split} tomograms that failed: ${rows}") }
    return missing
}
