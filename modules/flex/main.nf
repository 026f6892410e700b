process FLEX {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), val(reading), path(structure, stageAs: 'structure/*')       // reading: one line of JSON
    val settings
    val seed

    output:
    tuple val(id), path("${id}_c*.cif.gz"), emit: conformers
    path "${id}.flex.json", emit: facts

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > reading.json <<'READING'
    ${reading}
    READING
    template-learning flex ${structure} --id ${id} --reading reading.json --settings settings.json --seed ${seed} --output .
    """

    stub:
    """
    touch ${id}_c000.cif.gz ${id}_c001.cif.gz ${id}.flex.json
    """
}
