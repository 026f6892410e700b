process FLEX {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), val(reading), path(structure, stageAs: 'structure/*')       // reading: one line of JSON
    val settings
    val seed

    output:
    tuple val(meta), path("flex/${meta.id}_c*.cif.gz"), emit: conformers, topic: published
    path "flex/${meta.id}.flex.json", topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > reading.json <<'READING'
    ${reading}
    READING
    template-learning flex ${structure} --id ${meta.id} --reading reading.json --settings settings.json --seed ${seed} --output flex
    """

    stub:
    """
    mkdir flex
    touch flex/${meta.id}_c000.cif.gz flex/${meta.id}_c001.cif.gz flex/${meta.id}.flex.json
    """
}
