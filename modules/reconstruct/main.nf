process RECONSTRUCT {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), path(tilts), path(facts), path(angles)
    val settings

    output:
    tuple val(id), path("${id}.mrc"), emit: tomogram
    path "${id}.mrc.json", emit: facts

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning reconstruct --tilts ${tilts} --angles ${angles} --id ${id} --settings settings.json --output .
    """

    stub:
    """
    touch ${id}.mrc ${id}.mrc.json
    """
}
