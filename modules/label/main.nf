process LABEL {
    tag "${meta.id}"
    label 'medium'
    label 'per_tomogram'

    input:
    tuple val(meta), path(placed), path(facts), path(tomogram), val(settings)
    path library, stageAs: 'library/*'

    output:
    tuple val(meta), path("label/${meta.id}.labels.mrc"), path("label/${meta.id}.instances.mrc"), path("label/${meta.id}.particles.csv"), emit: truth, topic: published
    path "label/${meta.id}.*.json", topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning label --placed ${placed} --library library --tomogram ${tomogram} --id ${meta.id} --settings settings.json --output label
    """

    stub:
    """
    mkdir label
    touch label/${meta.id}.labels.mrc label/${meta.id}.instances.mrc label/${meta.id}.particles.csv label/${meta.id}.particles.csv.json
    """
}
