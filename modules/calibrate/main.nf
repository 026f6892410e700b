process CALIBRATE {
    tag 'size threshold'
    label 'network'

    input:
    path network, stageAs: 'trained.keras'
    path design, stageAs: 'design.csv'
    path tomograms, stageAs: 'data/*'
    val settings                                    // segment, cluster and evaluate

    output:
    path 'model.keras', emit: model
    path 'model.keras.json', emit: facts

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning calibrate --model trained.keras --design design.csv --data data --settings settings.json --output .
    """

    stub:
    """
    touch model.keras model.keras.json
    """
}
