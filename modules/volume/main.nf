process VOLUME {
    tag "${name}"
    label 'medium'

    input:
    tuple val(name), val(molecules), path(structures, stageAs: 'structures/?/*')    // molecules: one line of JSON
    val settings

    output:
    path "${name}", emit: library

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > molecules.json <<'MOLECULES'
    ${molecules}
    MOLECULES
    template-learning volume --molecules molecules.json --settings settings.json --output ${name}
    """

    stub:
    """
    mkdir ${name}
    touch ${name}/library.csv
    """
}
