process SIMULATE {
    tag "${meta.id}"
    label 'large'
    label 'gpu'
    label 'per_tomogram'

    input:
    tuple val(meta), val(row), path(placed), path(facts), val(settings)       // row: one line of JSON, the tomogram's row of the design
    path library, stageAs: 'library/*'
    val seed

    output:
    tuple val(meta), path("simulate/${meta.id}.tilts.mrc"), path("simulate/${meta.id}.tilts.mrc.json"), path("simulate/${meta.id}.tlt"), emit: tilts, topic: published
    path "simulate/${meta.id}.waves.npy*", optional: true, topic: published     // with simulate.keep_waves

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    cat > row.json <<'ROW'
    ${row}
    ROW
    template-learning simulate --placed ${placed} --library library --row row.json --settings settings.json --seed ${seed} --output simulate
    """

    stub:
    """
    mkdir simulate
    touch simulate/${meta.id}.tilts.mrc simulate/${meta.id}.tilts.mrc.json simulate/${meta.id}.tlt
    """
}
