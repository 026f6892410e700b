process CALIBRATE {
    tag 'size threshold'
    label 'network'
    label 'gpu'

    input:
    path network, stageAs: 'trained.keras'
    path design, stageAs: 'design.csv'
    val without                                     // ids, joined by commas: rows that failed
    path tomograms, stageAs: 'data/*'
    val settings                                    // segment, cluster and evaluate

    output:
    path 'calibrate/model.keras', emit: model, topic: published
    path 'calibrate/model.keras.json', topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning calibrate --model trained.keras --design design.csv ${without ? "--without ${without} " : ''}--data data --settings settings.json --output calibrate
    """

    stub:
    """
    mkdir calibrate
    touch calibrate/model.keras calibrate/model.keras.json
    """
}
