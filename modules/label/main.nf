process LABEL {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), path(placed), path(facts), path(tomogram)
    path library, stageAs: 'library/*'
    val settings

    output:
    tuple val(id), path("${id}.labels.mrc"), path("${id}.instances.mrc"), path("${id}.particles.csv"), emit: truth
    path "${id}.*.json", emit: facts

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning label --placed ${placed} --library library --tomogram ${tomogram} --id ${id} --settings settings.json --output .
    """

    stub:
    """
    touch ${id}.labels.mrc ${id}.instances.mrc ${id}.particles.csv ${id}.particles.csv.json
    """
}
