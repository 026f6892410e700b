process TETRIS {
    tag "${meta.id}"
    label 'medium'
    label 'per_tomogram'

    input:
    tuple val(meta), val(settings)
    path library, stageAs: 'library/*'
    val seed

    output:
    tuple val(meta), path("tetris/${meta.id}.placed.csv"), path("tetris/${meta.id}.placed.csv.json"), emit: placed, topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning tetris --library library --id ${meta.id} --settings settings.json --seed ${seed} --output tetris
    """

    stub:
    """
    mkdir tetris
    touch tetris/${meta.id}.placed.csv tetris/${meta.id}.placed.csv.json
    """
}
