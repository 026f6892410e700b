include { state_option } from '../training_state'

process FINETUNE {
    tag 'on annotated tomograms'
    label 'training'
    label 'gpu'

    input:
    path model, stageAs: 'model.keras'
    tuple val(table), path(tomograms, stageAs: 'tomograms/?/*'), path(annotations, stageAs: 'annotations/?/*')    // table: lines of CSV
    path library, stageAs: 'library/*'              // [] unless labels are shapes
    val settings                                    // finetune, label, train, segment, cluster and evaluate
    val seed

    output:
    path 'finetune/finetuned.keras', emit: model, topic: published
    path 'finetune/*.{csv,json}', topic: published

    script:
    def shapes = library ? '--library library' : ''
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > table.csv <<'TABLE'
    ${table.replace('\n', '\n    ')}
    TABLE
    template-learning finetune --model model.keras --tomograms table.csv ${shapes} --settings settings.json --seed ${seed} --output finetune ${state_option()}
    """

    stub:
    """
    mkdir finetune
    touch finetune/finetuned.keras finetune/finetuning.csv finetune/finetuned.keras.json
    """
}
