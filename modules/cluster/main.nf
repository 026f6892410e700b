process CLUSTER {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), path(segmentation), path(probability), path(facts)
    val settings

    output:
    tuple val(id), path("${id}.picks.csv"), path("${id}.picks.csv.json"), emit: picks

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning cluster --segmentation ${segmentation} --probability ${probability} --id ${id} --settings settings.json --output .
    """

    stub:
    """
    touch ${id}.picks.csv ${id}.picks.csv.json
    """
}
