process EXPORT {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), path(picks), path(facts), path(segmentation)
    val settings

    output:
    tuple val(meta), path('export/*'), topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning export --picks ${picks} --id ${meta.id} --segmentation ${segmentation} --settings settings.json --output export
    """

    stub:
    """
    mkdir export
    touch export/${meta.id}.csv
    """
}
