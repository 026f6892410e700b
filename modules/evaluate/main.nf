process EVALUATE {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), val(table), path(picks, stageAs: 'picks/*'), path(truth, stageAs: 'truth/?/*'), path(masks, stageAs: 'masks/?/*')
    val settings

    output:
    tuple val(id), path("${id}.evaluation.json"), path("${id}.curve.csv"), path("${id}.per_tomogram.csv"), emit: scores

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > table.csv <<'TABLE'
    ${table.replace('\n', '\n    ')}
    TABLE
    template-learning evaluate --table table.csv --id ${id} --settings settings.json --output .
    """

    stub:
    """
    touch ${id}.evaluation.json ${id}.curve.csv ${id}.per_tomogram.csv
    """
}
