process SIMULATE {
    tag "${id}"
    label 'large'

    input:
    tuple val(id), val(row), path(placed), path(facts)      // row: one line of JSON, the tomogram's row of the design
    path library, stageAs: 'library/*'
    val settings
    val seed

    output:
    tuple val(id), path("${id}.tilts.mrc"), path("${id}.tilts.mrc.json"), path("${id}.tlt"), emit: tilts
    path "${id}.waves.npy*", optional: true, emit: waves         // with simulate.keep_waves

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > row.json <<'ROW'
    ${row}
    ROW
    template-learning simulate --placed ${placed} --library library --row row.json --settings settings.json --seed ${seed} --output .
    """

    stub:
    """
    touch ${id}.tilts.mrc ${id}.tilts.mrc.json ${id}.tlt
    """
}
