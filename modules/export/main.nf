process EXPORT {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), path(picks), path(facts), path(segmentation)
    val settings

    output:
    tuple val(meta), path("export/${meta.id}.*"), optional: true, topic: published
    path "export/copick/ExperimentRuns/${meta.id}", optional: true, topic: published
    path 'export/copick/copick_config.json', emit: copick_config, optional: true        // of this tomogram, so not published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning export --picks ${picks} --id ${meta.id} --segmentation ${segmentation} --settings settings.json --output export
    """

    stub:
    """
    mkdir -p export/copick/ExperimentRuns/${meta.id}/Picks
    touch export/${meta.id}.csv
    echo '["${meta.id}"]' > export/copick/ExperimentRuns/${meta.id}/Picks/stub.json
    echo '{"pickable_objects": []}' > export/copick/copick_config.json
    """
}
