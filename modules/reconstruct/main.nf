process RECONSTRUCT {
    tag "${meta.id}"
    label 'medium'
    label 'per_tomogram'

    input:
    tuple val(meta), path(tilts), path(facts), path(angles), val(settings)
    val seed

    output:
    tuple val(meta), path("reconstruct/${meta.id}.mrc"), emit: tomogram, topic: published
    path "reconstruct/${meta.id}.mrc.json", topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning reconstruct --tilts ${tilts} --angles ${angles} --id ${meta.id} --settings settings.json --seed ${seed} --output reconstruct
    """

    stub:
    """
    mkdir reconstruct
    touch reconstruct/${meta.id}.mrc reconstruct/${meta.id}.mrc.json
    """
}
