process EXPORT {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), path(picks), path(facts), path(segmentation)
    val settings

    output:
    tuple val(meta), path("export/${meta.id}.*"), optional: true, topic: published
    path "export/copick/ExperimentRuns/${meta.id}", optional: true, topic: published
    path 'export/of_one_tomogram/copick_config.json', emit: copick_config, optional: true       // not published: COPICK_CONFIG's is

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning export --picks ${picks} --id ${meta.id} --segmentation ${segmentation} --settings settings.json --output export
    [ ! -d export/copick ] || { mkdir export/of_one_tomogram && mv export/copick/copick_config.json export/of_one_tomogram; }
    """

    stub:
    """
    mkdir -p export/copick/ExperimentRuns/${meta.id}/Picks export/of_one_tomogram
    touch export/${meta.id}.csv
    echo '["${meta.id}"]' > export/copick/ExperimentRuns/${meta.id}/Picks/stub.json
    echo '{"pickable_objects": []}' > export/of_one_tomogram/copick_config.json
    """
}
