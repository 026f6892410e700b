process REPORT {
    tag 'report and index'
    label 'medium'

    input:
    val listing                                     // the published files, one relative path a line
    path check, stageAs: 'run/check/*'
    path flex, stageAs: 'run/flex/*'
    path design, stageAs: 'run/design/*'
    path tetris, stageAs: 'run/tetris/*'
    path simulate, stageAs: 'run/simulate/*'
    path reconstruct, stageAs: 'run/reconstruct/*'
    path label, stageAs: 'run/label/*'
    path train, stageAs: 'run/train/*'
    path calibrate, stageAs: 'run/calibrate/*'
    path segment, stageAs: 'run/segment/*'
    path cluster, stageAs: 'run/cluster/*'
    path evaluate, stageAs: 'run/evaluate/*'

    output:
    path 'report.html', emit: page
    path 'index.json', emit: index

    script:
    """
    cat > listing.txt <<'LISTING'
    ${listing.replace('\n', '\n    ')}
    LISTING
    mkdir -p run
    template-learning index listing.txt --output index.json
    template-learning report --data run --output report.html
    """

    stub:
    """
    touch report.html index.json
    """
}
