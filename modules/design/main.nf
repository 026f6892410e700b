process DESIGN {
    tag 'tomograms to simulate'
    label 'quick'

    input:
    val settings
    val seed

    output:
    path 'design.csv', emit: table
    path 'design.csv.json', emit: facts

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning design --output design.csv --settings settings.json --seed ${seed}
    """

    stub: // its rows decide which tasks follow, so they are real ones
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning design --output design.csv --settings settings.json --seed ${seed}
    """
}
