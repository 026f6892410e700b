include { state_option } from '../training_state'

process TRAIN {
    tag 'network'
    label 'training'
    label 'gpu'

    input:
    path design, stageAs: 'design.csv'
    val without                                     // ids, joined by commas: rows that failed
    path tomograms, stageAs: 'data/*'               // <id>.mrc, <id>.labels.mrc, <id>.particles.csv of each row
    val settings
    val seed

    output:
    path 'train/trained.keras', emit: network, topic: published
    path 'train/history.csv', topic: published
    path 'train/*.json', topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning train --design design.csv ${without ? "--without ${without} " : ''}--data data --settings settings.json --seed ${seed} --output train ${state_option()}
    """

    stub:
    """
    mkdir train
    touch train/trained.keras train/history.csv train/trained.keras.json
    """
}
