process FLEX {
    tag "${id}"
    label 'medium'

    input:
    tuple val(id), path(structure, stageAs: 'structure/*')
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
    template-learning flex ${structure} --id ${id} --settings settings.json --seed ${seed} --output .
    """

    stub:
    """
    touch ${id}_c000.cif.gz ${id}_c001.cif.gz ${id}.flex.json
    """
}
