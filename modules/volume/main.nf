process VOLUME {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), val(molecules), path(structures, stageAs: 'structures/?/*')    // molecules: one line of JSON
    val settings

    output:
    path "volume/${meta.id}", emit: library, topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > molecules.json <<'MOLECULES'
    ${molecules}
    MOLECULES
    template-learning volume --molecules molecules.json --settings settings.json --output volume/${meta.id}
    """

    stub:
    """
    mkdir -p volume/${meta.id}
    touch volume/${meta.id}/library.csv
    """
}
