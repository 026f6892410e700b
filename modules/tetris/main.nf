process TETRIS {
    tag "${id}"
    label 'medium'

    input:
    val id
    path library, stageAs: 'library/*'
    val settings
    val seed

    output:
    tuple val(id), path("${id}.placed.csv"), path("${id}.placed.csv.json"), emit: placed

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning tetris --library library --id ${id} --settings settings.json --seed ${seed} --output .
    """

    stub:
    """
    touch ${id}.placed.csv ${id}.placed.csv.json
    """
}
