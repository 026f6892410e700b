process EXPORT {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), path(picks), path(facts), path(segmentation)
    val settings

    output:
    tuple val(id), path('export/*'), emit: files

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning export --picks ${picks} --id ${id} --segmentation ${segmentation} --settings settings.json --output export
    """

    stub:
    """
    mkdir export
    touch export/${id}.csv
    """
}
