process EVALUATE {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), val(table), path(picks, stageAs: 'picks/*'), path(truth, stageAs: 'truth/?/*'), path(masks, stageAs: 'masks/?/*'), path(tomograms, stageAs: 'tomograms/?/*')
    val settings

    output:
    tuple val(meta), path("evaluate/${meta.id}.evaluation.json"), path("evaluate/${meta.id}.curve.csv"), path("evaluate/${meta.id}.per_tomogram.csv"), topic: published
    path "evaluate/${meta.id}.blobs_curve.csv", optional: true, topic: published     // a plain peer, where tomograms are given

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > table.csv <<'TABLE'
    ${table.replace('\n', '\n    ')}
    TABLE
    template-learning evaluate --table table.csv --id ${meta.id} --settings settings.json --output evaluate
    """

    stub:
    """
    mkdir evaluate
    touch evaluate/${meta.id}.evaluation.json evaluate/${meta.id}.curve.csv evaluate/${meta.id}.per_tomogram.csv
    ${tomograms ? "touch evaluate/${meta.id}.blobs_curve.csv" : ''}
    """
}
