process DESIGN {
    tag 'tomograms to simulate'
    label 'quick'

    input:
    val settings
    val seed

    output:
    path 'design/design.csv', emit: table, topic: published
    path 'design/design.csv.json', topic: published

    script: // no stub: the table's rows decide which tasks follow
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning design --output design/design.csv --settings settings.json --seed ${seed}
    """
}
